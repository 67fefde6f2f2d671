"""Shifts on a lattice that wraps around: apply them, draw them, read them off scores."""

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
    """Shift as `circular_shift` does, but what leaves is lost, and what enters is zero."""
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
    """Draw shifts, each axis uniformly from `-max_shift … max_shift`, inclusive (Section 5.1)."""
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
    """Return the shift with the largest score, the first of equal ones (Definition 4.1)."""
    check_scores(scores)
    return index_to_shift(scores.flatten(1).argmax(1), scores.shape[1:])


def index_to_shift(index: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Return the shift at a row-major index: on an axis of size n from -(n // 2) on."""
    axes = []
    for size in reversed(spatial_size):
        axes.append((index + size // 2) % size - size // 2)
        index = index // size
    return torch.stack(axes[::-1], dim=1)


def shift_to_index(shift: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Return the row-major index of the score of `shift`, taken modulo the size."""
    if shift.ndim != 2 or shift.shape[1] != len(spatial_size):
        raise ValueError(
            f"Expected `shift` to have shape (batch, {len(spatial_size)}), "
            f"but got {tuple(shift.shape)}."
        )
    index = torch.zeros(shift.shape[0], dtype=torch.int64, device=shift.device)
    for axis, size in enumerate(spatial_size):
        index = index * size + shift[:, axis] % size
    return index


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
    """Return spatial axes, negative and ascending, as a tuple; all of them for `None`."""
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
