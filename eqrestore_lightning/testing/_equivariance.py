"""How far an operator is from being equivariant."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional import rotate

Operator = Callable[[Tensor], Tensor]


@torch.no_grad()
def equivariance_error(
    operator: Operator,
    x: Tensor,
    *,
    shift: Sequence[int] | None = None,
    angle: float | None = None,
    transform: Operator | None = None,
    stride: int | None = None,
    ignored_border: int = 0,
) -> float:
    """Measure `‖F(T x) − T F(x)‖ / ‖F(x)‖` for one motion `T`: 0 if `F` is equivariant to it.

    Two unrelated outputs of mean zero differ by about 1.4. Where the output is smaller than the
    input by a stride, it has to move by the shift divided by the stride; if that is not a whole
    number of pixels, the neighboring one with the smaller error counts. Where the output has no
    spatial axes left, `T F(x)` is `F(x)`: invariance is measured.

    Convention:
        Shifts are circular, positive as in `torch.roll`; angles are counter-clockwise as displayed,
        in the plane of the last two axes.

    Args:
        operator: From `(batch, channels, *spatial)` to a tensor, such as a network in eval mode.
        x: What it is tried on, of that shape, floating.
        shift: Pixels along each axis; 1 on every axis if no motion is given.
        angle: Degrees to turn by instead. Multiples of 90° move pixels exactly, whatever the size;
            others interpolate (`rotate`, with 2 spatial axes), and the error of that is included.
        transform: Any other motion instead, applied to input and output alike.
        stride: By how many pixels the input moves for one of the output; by default the ratio of
            their sizes, rounded.
        ignored_border: Pixels at every border of the output that are not compared, for operators
            that cut the border off rather than wrap it around.

    Returns:
        At least 0; infinite if the expected output is blank and the other is not.

    Raises:
        ValueError: If two motions are given, `shift` has another number of axes, or the border
            leaves nothing to compare.

    Source: Definition 3.2.

    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> equivariance_error(torch.relu, x, shift=(1, -2))
    0.0
    >>> equivariance_error(lambda x: x[:, :, ::2, ::2], x, shift=(2, 0))
    0.0
    >>> equivariance_error(lambda x: x[:, :, ::2, ::2], x, shift=(1, 0)) > 0.4
    True
    """
    if sum(motion is not None for motion in (shift, angle, transform)) > 1:
        raise ValueError("Expected one of `shift`, `angle` and `transform`, but got more.")
    if angle is not None:
        transform = functools.partial(_turn, angle=angle)
    if transform is not None:
        still, moved = operator(x), operator(transform(x))
        expected = transform(still) if still.ndim == x.ndim else still
        return relative_error(moved, expected, ignored_border=ignored_border)
    num_axes = x.ndim - 2
    shift = (1,) * num_axes if shift is None else tuple(shift)
    if len(shift) != num_axes:
        raise ValueError(f"Expected `shift` to have {num_axes} entries, but got {tuple(shift)}.")
    still, moved = operator(x), operator(x.roll(shift, tuple(range(2, x.ndim))))
    strides = own_stride(x, still) if stride is None else (stride,) * num_axes
    return shift_error(moved, still, shift, strides, ignored_border=ignored_border)


def assert_equivariant(
    operator: Operator,
    x: Tensor,
    *,
    shift: Sequence[int] | None = None,
    angle: float | None = None,
    transform: Operator | None = None,
    tolerance: float | None = None,
) -> None:
    """Raise `AssertionError` unless an operator is equivariant to one motion, on one batch.

    Args:
        operator: As for `equivariance_error`.
        x: What it is tried on, shape `(batch, channels, *spatial)`, floating.
        shift: Pixels along each axis; 1 on every axis if no motion is given.
        angle: Degrees to turn by instead.
        transform: Any other motion instead.
        tolerance: Largest error allowed; by default the square root of the spacing of the dtype of
            `x` at 1 (3.5e-4 for float32).

    Raises:
        AssertionError: If it is not; `audit` shows which layer of a network is responsible.
        ValueError: If `equivariance_error` raises it.

    Source: Definition 3.2.

    >>> assert_equivariant(torch.relu, torch.randn(2, 3, 4, 5), angle=90)
    """
    tolerance = torch.finfo(x.dtype).eps ** 0.5 if tolerance is None else tolerance
    error = equivariance_error(operator, x, shift=shift, angle=angle, transform=transform)
    if not error <= tolerance:
        motion = f"a shift of {tuple(shift)}" if shift is not None else "a shift by one pixel"
        if angle is not None:
            motion = f"a turn by {angle:g}°"
        elif transform is not None:
            motion = "`transform`"
        raise AssertionError(
            f"Expected `operator` to be equivariant to {motion}, up to {tolerance:.2g}, "
            f"but got an error of {error:.2g}; `eqrestore_lightning.testing.audit` shows where."
        )


def _turn(images: Tensor, angle: float) -> Tensor:
    if angle % 90 == 0:
        return images.rot90(round(angle / 90), (-2, -1))
    return rotate(images, torch.full((len(images),), float(angle), device=images.device))


def own_stride(x: Tensor, y: Tensor) -> tuple[int, ...]:
    """Return the ratio of the sizes on each axis, rounded, at least 1; 1 if `y` has other axes."""
    if y.ndim != x.ndim:
        return (1,) * (x.ndim - 2)
    sizes = zip(x.shape[2:], y.shape[2:], strict=True)
    return tuple(max(1, round(before / after)) for before, after in sizes)


def shift_error(
    moved: Tensor,
    still: Tensor,
    shift: Sequence[int],
    stride: Sequence[int],
    *,
    ignored_border: int = 0,
) -> float:
    """Compare an output with the one of the unshifted input, moved by `shift / stride` pixels."""
    if still.ndim != len(shift) + 2:
        return relative_error(moved, still)
    axes = tuple(range(2, still.ndim))
    nearest = [
        {math.floor(pixels / step), math.ceil(pixels / step)}
        for pixels, step in zip(shift, stride, strict=True)
    ]
    return min(
        relative_error(moved, still.roll(pixels, axes), ignored_border=ignored_border)
        for pixels in itertools.product(*nearest)
    )


def relative_error(output: Tensor, expected: Tensor, *, ignored_border: int = 0) -> float:
    """Compute `‖output − expected‖ / ‖expected‖`, away from the border."""
    if ignored_border:
        inner = slice(ignored_border, -ignored_border)
        output, expected = (
            value[(slice(None), slice(None), *[inner] * (value.ndim - 2))]
            for value in (output, expected)
        )
        if expected.numel() == 0:
            raise ValueError(
                f"Expected `ignored_border` to leave something, but got {ignored_border}."
            )
    difference = float(torch.linalg.vector_norm((output - expected).double()))
    if difference == 0:
        return 0.0
    norm = float(torch.linalg.vector_norm(expected.double()))
    return difference / norm if norm else math.inf
