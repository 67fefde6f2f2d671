"""Where points of images go when the images are moved: the counterparts of what moves pixels.

Convention:
    Points are given in pixels along the spatial axes of an image, such as (down, right), from its
    corner: the middle of the first pixel lies at ½ along each axis. They are of shape
    `(batch, things, points, axes)`: the points of one thing, such as the corners of a box, stay
    together where content wraps around.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional._rotation import turned_size
from eqrestore_lightning.functional._shift import check_axes


def shift_points(
    points: Tensor,
    shift: Tensor,
    spatial_size: Sequence[int],
    *,
    axes: Sequence[int] | None = None,
    circular: bool = True,
) -> Tensor:
    """Shift points as `circular_shift` does pixels; the mean of each thing stays in the image."""
    dims = len(spatial_size)
    columns = dict(zip(check_axes(axes, dims), shift.unbind(1), strict=True))
    still = shift.new_zeros(shift.shape[0])
    step = torch.stack([columns.get(axis, still) for axis in range(-dims, 0)], 1)[:, None, None]
    moved = points + step
    if not circular:
        return moved
    size = torch.tensor(tuple(spatial_size), dtype=points.dtype, device=points.device)
    wrapped = moved - size * torch.floor(moved.mean(2, keepdim=True) / size)
    return torch.where(step == 0, moved, wrapped)


def rotate_points(points: Tensor, angle: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Turn the points of each image about its center, as `rotate` does pixels."""
    angle_rad = torch.deg2rad(angle.to(points))
    cosine, sine = torch.cos(angle_rad), torch.sin(angle_rad)
    return _turned(points, cosine, sine, spatial_size, spatial_size)


def quarter_turn_points(points: Tensor, quarters: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Turn the points of each image by quarters, as `quarter_turn` does pixels: exact."""
    cosine = torch.tensor([1, 0, -1, 0], dtype=points.dtype, device=points.device)
    sine, after = cosine[(quarters - 1) % 4], turned_size(spatial_size, quarters)
    return _turned(points, cosine[quarters % 4], sine, spatial_size, after)


def mirror_points(points: Tensor, mirrored: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Mirror the points of each image left to right, or not, as `mirror` does pixels."""
    down, right = points.unbind(-1)
    flipped = torch.stack([down, spatial_size[1] - right], -1)
    return torch.where((mirrored % 2 == 1).reshape(-1, 1, 1, 1), flipped, points)


def _turned(
    points: Tensor, cosine: Tensor, sine: Tensor, before: Sequence[int], after: Sequence[int]
) -> Tensor:
    """Turn points about the center of the image, counter-clockwise as displayed."""
    cosine, sine = (each.reshape(-1, 1, 1) for each in (cosine, sine))
    center, new_center = (
        torch.tensor(tuple(size), dtype=points.dtype, device=points.device) / 2
        for size in (before, after)
    )
    down, right = (points - center).unbind(-1)
    turned = torch.stack([cosine * down - sine * right, sine * down + cosine * right], -1)
    return new_center + turned
