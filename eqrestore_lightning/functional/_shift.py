"""Shifts on a lattice that wraps around: apply them, draw them, read them off scores."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def circular_shift(x: Tensor, shift: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    r"""Shift every sample by its own amount, wrapping around: `y[b, c, i] = x[b, c, i - shift[b]]`.

    Convention:
        Positive moves content toward higher indices, as `torch.roll` does. `shift[:, a]` belongs
        to the a-th of `axes`, so for images the order is (down, right).

    Args:
        x: Samples of shape `(batch, channels, *spatial)`, any dtype that torch can gather.
        shift: Pixels, int64 of shape `(batch, num_axes)`; any value, taken modulo the size.
        axes: The spatial axes to shift along, negative as in torch, ascending, such as `(-1,)` for
            the width; all by default.

    Returns:
        A new tensor with the shape and dtype of `x`; every entry is a copy of one of `x` (exact).

    Raises:
        TypeError: If `shift` is not int64.
        ValueError: If the shapes of `x` and `shift` do not match, or `axes` are not spatial axes
            of `x`.

    Source: Definition 3.1.

    >>> x = torch.arange(12).reshape(1, 1, 3, 4)
    >>> circular_shift(x, torch.tensor([[1, -1]]))[0, 0]
    tensor([[ 9, 10, 11,  8],
            [ 1,  2,  3,  0],
            [ 5,  6,  7,  4]])
    """
    shift = _over_all_axes(x, shift, axes)
    source = _source_positions(shift, x.shape[2:])
    index = torch.zeros((), dtype=torch.int64, device=x.device)
    for position, size in zip(source, x.shape[2:], strict=True):
        index = index.unsqueeze(-1) * size + position % size
    flat = x.flatten(2)
    return flat.gather(2, index.flatten(1).unsqueeze(1).expand_as(flat)).reshape(x.shape)


def zero_fill_shift(x: Tensor, shift: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Shift every sample by its own amount; what leaves is lost, what enters is zero.

    Convention:
        Signs and axes as in `circular_shift`.

    Args:
        x: Samples of shape `(batch, channels, *spatial)`, any dtype.
        shift: Pixels, int64 of shape `(batch, num_axes)`.
        axes: As for `circular_shift`.

    Returns:
        A new tensor with the shape and dtype of `x` (exact).

    Raises:
        TypeError: If `shift` is not int64.
        ValueError: If the shapes of `x` and `shift` do not match, or `axes` are not spatial axes
            of `x`.

    >>> x = torch.arange(12).reshape(1, 1, 3, 4)
    >>> zero_fill_shift(x, torch.tensor([[1, -1]]))[0, 0]
    tensor([[0, 0, 0, 0],
            [1, 2, 3, 0],
            [5, 6, 7, 0]])
    """
    shift = _over_all_axes(x, shift, axes)
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for position, size in zip(_source_positions(shift, x.shape[2:]), x.shape[2:], strict=True):
        inside = inside.unsqueeze(-1) & (position >= 0) & (position < size)
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    return torch.where(inside.unsqueeze(1), circular_shift(x, shift), zero)


def random_shift(
    batch_size: int,
    max_shift: int | Sequence[int],
    *,
    num_spatial_dims: int = 2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a shift for every sample, each axis uniformly from `-max_shift … max_shift`, inclusive.

    Args:
        batch_size: Number of shifts.
        max_shift: Largest shift, pixels, at least 0; one number for all axes, or one for each.
        num_spatial_dims: Number of axes.
        generator: Source of randomness; the shifts lie on its device.

    Returns:
        Pixels, int64 of shape `(batch_size, num_spatial_dims)`.

    Raises:
        ValueError: If `max_shift` is negative or has another number of entries.

    Source: Section 5.1.

    >>> random_shift(3, 4, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2])
    """
    sizes = (max_shift,) * num_spatial_dims if isinstance(max_shift, int) else tuple(max_shift)
    if len(sizes) != num_spatial_dims:
        raise ValueError(
            f"Expected `max_shift` to be one number or {num_spatial_dims}, but got {sizes}."
        )
    if min(sizes, default=0) < 0:
        raise ValueError(f"Expected `max_shift` to be at least 0, but got {max_shift}.")
    device = None if generator is None else generator.device
    if len(set(sizes)) == 1:
        shape = (batch_size, num_spatial_dims)
        return torch.randint(-sizes[0], sizes[0] + 1, shape, generator=generator, device=device)
    widths = torch.tensor(sizes, device=device) * 2 + 1
    uniform = torch.rand(
        batch_size, num_spatial_dims, dtype=torch.float64, generator=generator, device=device
    )
    return (uniform * widths).long() - widths // 2


def scores_to_shift(scores: Tensor) -> Tensor:
    """Return the shift with the largest score.

    Convention:
        On an axis of size `n` shifts are `-(n // 2) … (n - 1) // 2`, so that small shifts of either
        sign look small. Ties go to the lowest index in row-major order, which does not follow the
        image; where that matters, `best_index` breaks them by content.

    Args:
        scores: Shape `(batch, *spatial)`, floating.

    Returns:
        Pixels, int64 of shape `(batch, num_spatial_dims)`.

    Raises:
        ValueError: If `scores` has no spatial axis or an empty one.

    Source: Definition 4.1.

    >>> scores = torch.zeros(1, 3, 4)
    >>> scores[0, 1, 3] = 1.0
    >>> scores_to_shift(scores)
    tensor([[ 1, -1]])
    """
    check_scores(scores)
    return index_to_shift(scores.flatten(1).argmax(1), scores.shape[1:])


def index_to_shift(index: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Return the shift at a row-major index of scores: the inverse of `shift_to_index`.

    Args:
        index: int64 of shape `(batch,)`.
        spatial_size: Size of each shifted axis, pixels.

    Returns:
        Pixels, int64 of shape `(batch, num_axes)`; on an axis of size `n` from `-(n // 2)` to
        `(n - 1) // 2`.

    >>> index_to_shift(torch.tensor([7]), (3, 4))
    tensor([[ 1, -1]])
    """
    axes = []
    for size in reversed(spatial_size):
        axes.append((index + size // 2) % size - size // 2)
        index = index // size
    return torch.stack(axes[::-1], dim=1)


def shift_to_index(shift: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Return the row-major index of the score of `shift`: the inverse of `index_to_shift`.

    Args:
        shift: Pixels, int64 of shape `(batch, num_axes)`; any value, taken modulo the size.
        spatial_size: Size of each shifted axis, pixels.

    Returns:
        int64 of shape `(batch,)`, from 0 to the number of positions minus one.

    Raises:
        ValueError: If `shift` has another number of axes than `spatial_size`.

    >>> shift_to_index(torch.tensor([[1, -1]]), (3, 4))
    tensor([7])
    """
    if shift.ndim != 2 or shift.shape[1] != len(spatial_size):
        raise ValueError(
            f"Expected `shift` to have shape (batch, {len(spatial_size)}), "
            f"but got {tuple(shift.shape)}."
        )
    index = torch.zeros(shift.shape[0], dtype=torch.int64, device=shift.device)
    for axis, size in enumerate(spatial_size):
        index = index * size + shift[:, axis] % size
    return index


def scores_to_margin(scores: Tensor) -> Tensor:
    """Compute how far the best score is ahead of the second, for every sample.

    Args:
        scores: Shape `(batch, *spatial)`, floating.

    Returns:
        At least 0, shape `(batch,)`, dtype of `scores`. Scores trained by cross-entropy are
        log-probabilities up to a constant, so the margin is the log-odds of the best place against
        the second. Infinite where there is only one place.

    Raises:
        ValueError: If `scores` has no spatial axis or an empty one.

    >>> scores_to_margin(torch.tensor([[0.5, 3.0, 1.0]]))
    tensor([2.])
    """
    check_scores(scores)
    flat = scores.flatten(1)
    if flat.shape[1] == 1:
        return torch.full_like(flat[:, 0], math.inf)
    best, second = flat.topk(2, dim=1).values.unbind(1)
    return best - second


def _source_positions(shift: Tensor, spatial_size: Sequence[int]) -> list[Tensor]:
    """Return, for each axis, where each output position is read: `(batch, 1, …, size)`."""
    positions = []
    for axis, size in enumerate(spatial_size):
        position = torch.arange(size, device=shift.device) - shift[:, axis, None]
        positions.append(position.reshape(shift.shape[0], *[1] * axis, size))
    return positions


def _over_all_axes(x: Tensor, shift: Tensor, axes: Sequence[int] | None) -> Tensor:
    """Check a shift along some axes, and return it for all spatial axes: 0 along the others."""
    if shift.dtype != torch.int64:
        raise TypeError(f"Expected `shift` to have dtype torch.int64, but got {shift.dtype}.")
    if x.ndim < 3:
        raise ValueError(
            f"Expected `x` to have shape (batch, channels, *spatial), but got {tuple(x.shape)}."
        )
    chosen = check_axes(axes, x.ndim - 2)
    if shift.shape != (x.shape[0], len(chosen)):
        raise ValueError(
            f"Expected `shift` to have shape (batch, num_axes) = {(x.shape[0], len(chosen))}, "
            f"but got {tuple(shift.shape)}."
        )
    if axes is None:
        return shift
    columns = dict(zip(chosen, shift.unbind(1), strict=True))
    still = shift.new_zeros(x.shape[0])
    return torch.stack([columns.get(axis, still) for axis in range(2 - x.ndim, 0)], 1)


def check_axes(axes: Sequence[int] | None, num_spatial_dims: int) -> tuple[int, ...]:
    """Return spatial axes as a tuple; all of them for `None`.

    Args:
        axes: The axes, negative as in torch, ascending, at least one.
        num_spatial_dims: Number of spatial axes of the images.

    Raises:
        ValueError: If `axes` are not of this form.

    >>> check_axes(None, 2), check_axes([-3, -1], 3)
    ((-2, -1), (-3, -1))
    """
    every = tuple(range(-num_spatial_dims, 0))
    chosen = every if axes is None else tuple(axes)
    if not chosen or chosen != tuple(sorted(set(chosen) & set(every))):
        raise ValueError(f"Expected `axes` to be ascending and from {every}, but got {chosen}.")
    return chosen


def check_scores(scores: Tensor) -> None:
    """Raise `ValueError` unless `scores` has shape `(batch, *spatial)` with at least one place."""
    if scores.ndim < 2 or 0 in scores.shape[1:]:
        raise ValueError(
            f"Expected `scores` to have shape (batch, *spatial) with at least one place, "
            f"but got {tuple(scores.shape)}."
        )
