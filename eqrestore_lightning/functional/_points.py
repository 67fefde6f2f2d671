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
    """Shift the points of each image, as `circular_shift` does pixels.

    Args:
        points: Pixels, floating of shape `(batch, things, points, axes)`.
        shift: Pixels, int64 of shape `(batch, num_axes)`.
        spatial_size: Size of each spatial axis of the images, pixels.
        axes: As for `circular_shift`.
        circular: Whether things that leave the image enter on the other side.

    Returns:
        Shape and dtype of `points`. If `circular`, the mean of the points of each thing lies in the
        image along each axis with a shift other than 0; single points of it may lie outside, where
        the thing wraps around.

    >>> points = torch.tensor([[[[3.0, 28.0], [9.0, 31.0]]]])  # opposite corners of a box
    >>> shift_points(points, torch.tensor([[0, 3]]), (32, 32))
    tensor([[[[ 3., -1.],
              [ 9.,  2.]]]])
    """
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
    """Turn the points of each image about its center, as `rotate` does pixels.

    Args:
        points: Pixels, floating of shape `(batch, things, points, 2)`.
        angle: Degrees, floating of shape `(batch,)`, counter-clockwise as displayed.
        spatial_size: Height and width of the images, pixels.

    Returns:
        Shape and dtype of `points`.

    >>> points = torch.tensor([[[[0.5, 1.5]]]])  # the second pixel of the first row
    >>> rotate_points(points, torch.tensor([90.0]), (3, 3))
    tensor([[[[1.5000, 0.5000]]]])
    """
    angle_rad = torch.deg2rad(angle.to(points))
    cosine, sine = torch.cos(angle_rad), torch.sin(angle_rad)
    return _turned(points, cosine, sine, spatial_size, spatial_size)


def quarter_turn_points(points: Tensor, quarters: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Turn the points of each image by quarters, as `quarter_turn` does pixels: exact.

    Args:
        points: Pixels, floating of shape `(batch, things, points, 2)`.
        quarters: Quarter turns, int64 of shape `(batch,)`, counter-clockwise as displayed.
        spatial_size: Height and width of the images before they are turned, pixels.

    Returns:
        Shape and dtype of `points`.

    Raises:
        ValueError: If the turned images would not fit into one batch.

    >>> points = torch.tensor([[[[0.5, 1.5]]]])
    >>> quarter_turn_points(points, torch.tensor([2]), (3, 3))
    tensor([[[[2.5000, 1.5000]]]])
    """
    cosine = torch.tensor([1, 0, -1, 0], dtype=points.dtype, device=points.device)
    sine, after = cosine[(quarters - 1) % 4], turned_size(spatial_size, quarters)
    return _turned(points, cosine[quarters % 4], sine, spatial_size, after)


def mirror_points(points: Tensor, mirrored: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Mirror the points of each image left to right, or not, as `mirror` does pixels.

    Args:
        points: Pixels, floating of shape `(batch, things, points, 2)`.
        mirrored: int64 of shape `(batch,)`; 1 for images to mirror, 0 for the others.
        spatial_size: Height and width of the images, pixels.

    Returns:
        Shape and dtype of `points`.

    >>> mirror_points(torch.tensor([[[[0.5, 1.0]]]]), torch.tensor([1]), (3, 8))
    tensor([[[[0.5000, 7.0000]]]])
    """
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
