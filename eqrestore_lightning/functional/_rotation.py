"""Rotations about the center of an image; all conventions about angles are defined here."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Fill: TypeAlias = Literal["zeros", "border", "reflection"]
Interpolation: TypeAlias = Literal["bilinear", "nearest"]


def to_polar(
    x: Tensor,
    *,
    num_radii: int,
    num_angles: int,
    max_radius: float | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    r"""Sample images on circles: `p[b, c, i, j] = x_bc(center + r_i (cos θ_j, −sin θ_j))`.

    `r_i = max_radius · (i + 1/2) / num_radii` and `θ_j = 2π j / num_angles`. The angle axis wraps.

    Convention:
        Angles run counter-clockwise as displayed, from the right. Turning an image by
        `k · 360° / num_angles` counter-clockwise moves the content of `p` by `k` places toward
        higher indices of the angle axis, as `torch.roll(p, k, 3)`. The center lies in the middle of
        the image, between pixels where a size is even.

    Args:
        x: Images of shape `(batch, channels, height, width)`, floating.
        num_radii: Number of circles.
        num_angles: Number of samples on each circle.
        max_radius: Outer edge of the outermost ring, pixels; by default it reaches the nearest
            border, `(min(height, width) − 1) / 2`. What lies outside the image counts as 0.
        offset: Where the circles' center lies, pixels (down, right) from the middle of each image,
            floating of shape `(batch, 2)`, such as its center of mass; by default in the middle.

    Returns:
        Shape `(batch, channels, num_radii, num_angles)`, dtype of `x`; bilinear interpolation,
        differentiable. Quarter turns (`torch.rot90`) of square images, whose `offset` turns along,
        roll it **bit for bit** if `num_angles` is a multiple of 4; other turns do so up to
        interpolation.

    Raises:
        TypeError: If `x` is not floating.
        ValueError: If `x` is not 4-D, `offset` has another shape, or a number is out of range.

    Source: Section 5.2.

    >>> x = torch.zeros(1, 1, 5, 5)
    >>> x[0, 0, 1, 2] = 1.0  # above the center: at 90°
    >>> to_polar(x, num_radii=2, num_angles=4)[0, 0]
    tensor([[0.0000, 0.5000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.0000, 0.0000]])
    """
    _check_images(x)
    if not x.is_floating_point():
        raise TypeError(f"Expected `x` to be floating, but got {x.dtype}.")
    check_circles(num_radii, num_angles, max_radius)
    height, width = x.shape[2:]
    if max_radius is None:
        max_radius = (min(height, width) - 1) / 2
    # A quarter of the angles, read from four exact quarter turns, is equivariant bit for bit.
    parts = 4 if height == width and num_angles % 4 == 0 else 1
    steps = torch.arange(num_angles // parts, dtype=torch.float64, device="cpu")
    angle_rad = steps * (2 * math.pi / num_angles)
    radius = (torch.arange(num_radii, dtype=torch.float64, device="cpu") + 0.5) / num_radii
    radius = (radius * max_radius).unsqueeze(1)
    columns = ((width - 1) / 2 + radius * torch.cos(angle_rad)).unsqueeze(0)
    rows = ((height - 1) / 2 - radius * torch.sin(angle_rad)).unsqueeze(0)
    turned = torch.stack([torch.rot90(x, -part, (2, 3)) for part in range(parts)], 1)
    if offset is not None:
        _check_offset(offset, x)
        precise = torch.float32 if x.device.type == "mps" else torch.float64
        down, right = offset.to(x.device, precise).unbind(1)
        # The offsets of the four turned images: (down, right) becomes (right, −down), and so on.
        downs = torch.stack([down, right, -down, -right][:parts], 1).reshape(-1, 1, 1)
        rights = torch.stack([right, -down, -right, down][:parts], 1).reshape(-1, 1, 1)
        columns = columns.to(x.device, precise) + rights
        rows = rows.to(x.device, precise) + downs
    sampled = _sample(turned.flatten(0, 1), columns, rows, "zeros")
    sampled = sampled.reshape(x.shape[0], parts, *sampled.shape[1:])
    return sampled.permute(0, 2, 3, 1, 4).flatten(3)


def mass_offset(x: Tensor) -> Tensor:
    """Compute where the center of mass lies, pixels (down, right) from the middle: `(batch, 2)`.

    Brightness above that of the darkest pixel counts as mass. It turns along with square images
    under quarter turns, bit for bit where `x` is float64 and holds integers up to 2^24.
    """
    _check_images(x)
    mass = (x - x.amin((1, 2, 3), keepdim=True)).sum(1)
    height, width = mass.shape[1:]
    steps = (torch.arange(size, device=x.device, dtype=x.dtype) for size in (height, width))
    down, right = next(steps) - (height - 1) / 2, next(steps) - (width - 1) / 2
    total = mass.sum((1, 2))
    total = torch.where(total == 0, 1, total)
    return torch.stack([mass.sum(2) @ down / total, mass.sum(1) @ right / total], 1)


def rotate(
    x: Tensor, angle: Tensor, *, fill: Fill = "zeros", interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Turn every image about its center by its own angle, keeping its size.

    The part of a square image's angle that is a multiple of 90° moves pixels as `torch.rot90` does,
    exactly; only what remains, at most 45°, is interpolated.

    Convention:
        Positive is counter-clockwise as displayed, as in `torch.rot90` and `kornia`.

    Args:
        x: Images of shape `(batch, channels, height, width)`, any real dtype.
        angle: Degrees, floating of shape `(batch,)`; any value, taken modulo 360.
        fill: What enters at the corners: `"zeros"`, the nearest pixel of the `"border"`, or the
            image's `"reflection"` about the border's pixels.
        interpolation: `"bilinear"`, or `"nearest"` for images whose values must not be mixed, such
            as masks of labels.

    Returns:
        A new tensor with the shape and dtype of `x`. Exact for multiples of 90° if the image is
        square, and of 360° if not; else interpolated once, and rounded for integer dtypes.
        Differentiable in `x`, and in `angle` except at those multiples.

    Raises:
        TypeError: If `angle` is not floating, or `x` is complex.
        ValueError: If the shapes do not match, or `fill` or `interpolation` is unknown.

    Source: Interpolation by `kornia.geometry.transform.remap`.

    >>> x = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> rotate(x, torch.tensor([90.0]))[0, 0]
    tensor([[2., 5., 8.],
            [1., 4., 7.],
            [0., 3., 6.]])
    """
    _check_rotate(x, angle, fill, interpolation)
    height, width = x.shape[2:]
    step = 90 if height == width else 360
    # floor, not round: halves must fall the same way in every quadrant
    quarters = torch.floor(angle.detach() / step + 0.5)
    rest = angle - step * quarters
    turned = quarter_turn(x, quarters.long()) if height == width else x
    # Where each pixel comes from: its place, turned back about the center.
    rest_rad = torch.deg2rad(rest if rest.device.type == "mps" else rest.double())
    dtype = _precision(x)
    cosine, sine = (f(rest_rad).to(dtype).reshape(-1, 1, 1) for f in (torch.cos, torch.sin))
    down = torch.arange(height, device=x.device, dtype=dtype).unsqueeze(1) - (height - 1) / 2
    right = torch.arange(width, device=x.device, dtype=dtype) - (width - 1) / 2
    columns = (width - 1) / 2 + cosine * right - sine * down
    rows = (height - 1) / 2 + sine * right + cosine * down
    moved = _sample(turned, columns, rows, fill, interpolation)
    return torch.where((rest == 0).reshape(-1, 1, 1, 1), turned, moved)


def quarter_turn(x: Tensor, quarters: Tensor) -> Tensor:
    """Turn every image by its own number of quarters, exactly, as `torch.rot90` does."""
    _check_images(x)
    if quarters.dtype != torch.int64:
        raise TypeError(f"Expected `quarters` to have dtype torch.int64, but got {quarters.dtype}.")
    _check_one_each("quarters", quarters, x)
    chosen = (quarters % 4).reshape(-1, 1, 1, 1)
    first = 0 if turned_size(x.shape[2:], quarters) == tuple(x.shape[2:]) else 1
    step = 1 if x.shape[2] == x.shape[3] else 2  # even or odd quarters alone keep one shape
    turned = torch.rot90(x, first, (2, 3)).clone()
    for quarter in range(first + step, 4, step):
        turned = torch.where(chosen == quarter, torch.rot90(x, quarter, (2, 3)), turned)
    return turned


def turned_size(spatial_size: Sequence[int], quarters: Tensor) -> tuple[int, ...]:
    """Return the size that images have once they are turned by quarters."""
    height, width = spatial_size
    if height == width or not len(quarters):
        return height, width
    odd = quarters % 2 == 1
    if bool(odd.all()):
        return width, height
    if bool(odd.any()):
        raise ValueError(
            f"Expected images that are not square to be turned by even quarters all, or by odd "
            f"ones all, so that the batch keeps one shape, but got images of {height} × {width} "
            f"pixels and quarters of both kinds; pass such images one by one, or crop them to "
            f"squares."
        )
    return height, width


def mirror(x: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror every image left to right where `mirrored`, int64, is odd."""
    _check_images(x)
    if mirrored.dtype != torch.int64:
        raise TypeError(f"Expected `mirrored` to have dtype torch.int64, but got {mirrored.dtype}.")
    _check_one_each("mirrored", mirrored, x)
    return torch.where((mirrored % 2 == 1).reshape(-1, 1, 1, 1), x.flip(3), x)


def _sample(
    x: Tensor,
    columns: Tensor,
    rows: Tensor,
    fill: Fill,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Read images at `(batch or 1, rows, columns)` places, given in pixels."""
    from kornia.geometry.transform import remap  # takes 2.6 s, which only rotations need

    precise = x.to(_precision(x))
    y = remap(
        precise,
        columns.to(precise),
        rows.to(precise),
        mode=interpolation,
        padding_mode=fill,
        align_corners=True,
    )
    return (y if x.is_floating_point() else y.round()).to(x.dtype)


def _precision(x: Tensor) -> torch.dtype:
    """Return the dtype to interpolate in: float64 where float32 would lose bits."""
    wide = x.dtype in (torch.float64, torch.int32, torch.int64) and x.device.type != "mps"
    return torch.float64 if wide else torch.float32


def _check_rotate(x: Tensor, angle: Tensor, fill: str, interpolation: str) -> None:
    _check_images(x)
    if x.is_complex():
        raise TypeError(f"Expected `x` to be real, but got {x.dtype}.")
    if not angle.is_floating_point():
        raise TypeError(f"Expected `angle` to be floating, but got {angle.dtype}.")
    _check_one_each("angle", angle, x)
    check_sampling(fill, interpolation)


def check_sampling(fill: str, interpolation: str) -> None:
    """Raise `ValueError` if there is no such `fill` or `interpolation`."""
    for name, value, known in (
        ("fill", fill, get_args(Fill)),
        ("interpolation", interpolation, get_args(Interpolation)),
    ):
        if value not in known:
            raise ValueError(f"Expected `{name}` to be one of {known}, but got {value!r}.")


def check_circles(num_radii: int, num_angles: int, max_radius: float | None) -> None:
    """Raise `ValueError` if a number of `to_polar` is out of range."""
    for name, number in (("num_radii", num_radii), ("num_angles", num_angles)):
        if number < 1:
            raise ValueError(f"Expected `{name}` to be at least 1, but got {number}.")
    if max_radius is not None and not 0 <= max_radius < math.inf:
        raise ValueError(
            f"Expected `max_radius` to be finite and at least 0, but got {max_radius}."
        )


def _check_offset(offset: Tensor, x: Tensor) -> None:
    if tuple(offset.shape) != (x.shape[0], 2) or not offset.is_floating_point():
        raise ValueError(
            f"Expected `offset` to be floating of shape (batch, 2) = {(x.shape[0], 2)}, "
            f"but got {offset.dtype} of shape {tuple(offset.shape)}."
        )


def _check_one_each(name: str, value: Tensor, x: Tensor) -> None:
    if value.shape != x.shape[:1]:
        raise ValueError(
            f"Expected `{name}` to have shape (batch,) = {(x.shape[0],)}, "
            f"but got {tuple(value.shape)}."
        )


def _check_images(x: Tensor) -> None:
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(
            f"Expected `x` to have shape (batch, channels, height, width) with at least one pixel, "
            f"but got {tuple(x.shape)}."
        )
