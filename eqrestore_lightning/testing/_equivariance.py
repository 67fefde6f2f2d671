"""How far an operator is from being equivariant."""

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
        stride: By how many pixels the input shifts for one of the output; by default the ratio of
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
    if shift is not None and angle is not None:
        raise ValueError("Expected one of `shift` and `angle`, but got both.")
    num_axes = x.ndim - 2
    shift = (1,) * num_axes if shift is None else tuple(shift)
    if len(shift) != num_axes:
        raise ValueError(f"Expected `shift` to have {num_axes} entries, but got {shift}.")
    still = operator(x)
    if angle is not None:
        moved = operator(_turn(x, angle))
        candidates = [_turn(still, angle) if still.ndim == x.ndim else still]
    else:
        moved = operator(x.roll(shift, tuple(range(2, x.ndim))))
        candidates = _shifted(x, still, shift, stride) if still.ndim == x.ndim else [still]
    return min(_relative_error(moved, each, ignored_border) for each in candidates)


def assert_equivariant(
    operator: Operator,
    x: Tensor,
    *,
    shift: Sequence[int] | None = None,
    angle: float | None = None,
    tolerance: float | None = None,
) -> None:
    """Raise `AssertionError` unless an operator is equivariant to one motion, on one batch.

    Args:
        operator: As for `equivariance_error`.
        x: What it is tried on, shape `(batch, channels, *spatial)`, floating.
        shift: Pixels along each axis; 1 on every axis if no motion is given.
        angle: Degrees to turn by instead.
        tolerance: Largest error allowed; by default the square root of the spacing of the dtype of
            `x` at 1 (3.5e-4 for float32).

    Raises:
        AssertionError: If it is not.
        ValueError: If `equivariance_error` raises it.

    Source: Definition 3.2.

    >>> assert_equivariant(torch.relu, torch.randn(2, 3, 4, 5), angle=90)
    """
    tolerance = torch.finfo(x.dtype).eps ** 0.5 if tolerance is None else tolerance
    error = equivariance_error(operator, x, shift=shift, angle=angle)
    if not error <= tolerance:
        motion = f"a shift of {tuple(shift)}" if shift is not None else "a shift by one pixel"
        if angle is not None:
            motion = f"a turn by {angle:g}°"
        raise AssertionError(
            f"Expected `operator` to be equivariant to {motion}, up to {tolerance:.2g}, "
            f"but got an error of {error:.2g}."
        )


def _turn(images: Tensor, angle: float) -> Tensor:
    if angle % 90 == 0:
        return images.rot90(round(angle / 90), (-2, -1))
    return rotate(images, torch.full((len(images),), float(angle), device=images.device))


def _shifted(x: Tensor, still: Tensor, shift: Sequence[int], stride: int | None) -> list[Tensor]:
    """Return the output moved by `shift / stride` pixels, in every way of rounding that."""
    nearest = []
    for pixels, before, after in zip(shift, x.shape[2:], still.shape[2:], strict=True):
        step = stride or max(1, round(before / after))
        nearest.append({math.floor(pixels / step), math.ceil(pixels / step)})
    axes = tuple(range(2, still.ndim))
    return [still.roll(pixels, axes) for pixels in itertools.product(*nearest)]


def _relative_error(output: Tensor, expected: Tensor, ignored_border: int) -> float:
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
