"""Shifts on a lattice that wraps around: apply them, draw them, read them off a map of scores."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def circular_shift(x: Tensor, shift: Tensor) -> Tensor:
    r"""Shift every sample by its own amount, wrapping around: `y[b, c, i] = x[b, c, i - shift[b]]`.

    Convention:
        Positive moves content towards higher indices, as `torch.roll` does. `shift[:, a]` belongs
        to the a-th spatial axis, so for images the order is (down, right).

    Args:
        x: Samples of shape `(batch, channels, *spatial)`, any dtype that torch can gather.
        shift: Pixels, int64 of shape `(batch, num_spatial_dims)`; any value, taken modulo the size.

    Returns:
        A new tensor with the shape and dtype of `x`; every entry is a copy of one of `x` (exact).

    Raises:
        TypeError: If `shift` is not int64.
        ValueError: If the shapes of `x` and `shift` do not belong together.

    Source: Definition 3.1.

    >>> x = torch.arange(12).reshape(1, 1, 3, 4)
    >>> circular_shift(x, torch.tensor([[1, -1]]))[0, 0]
    tensor([[ 9, 10, 11,  8],
            [ 1,  2,  3,  0],
            [ 5,  6,  7,  4]])
    """
    _check_shift(x, shift)
    source = _source_positions(shift, x.shape[2:])
    index = torch.zeros((), dtype=torch.int64, device=x.device)
    for position, size in zip(source, x.shape[2:], strict=True):
        index = index.unsqueeze(-1) * size + position % size
    flat = x.flatten(2)
    return flat.gather(2, index.flatten(1).unsqueeze(1).expand_as(flat)).reshape(x.shape)


def zero_fill_shift(x: Tensor, shift: Tensor) -> Tensor:
    """Shift every sample by its own amount; what leaves is lost, what enters is zero.

    Convention:
        Signs and axes as in `circular_shift`.

    Args:
        x: Samples of shape `(batch, channels, *spatial)`, any dtype.
        shift: Pixels, int64 of shape `(batch, num_spatial_dims)`.

    Returns:
        A new tensor with the shape and dtype of `x` (exact).

    Raises:
        TypeError: If `shift` is not int64.
        ValueError: If the shapes of `x` and `shift` do not belong together.

    Source: own.

    >>> x = torch.arange(12).reshape(1, 1, 3, 4)
    >>> zero_fill_shift(x, torch.tensor([[1, -1]]))[0, 0]
    tensor([[0, 0, 0, 0],
            [1, 2, 3, 0],
            [5, 6, 7, 0]])
    """
    _check_shift(x, shift)
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for position, size in zip(_source_positions(shift, x.shape[2:]), x.shape[2:], strict=True):
        inside = inside.unsqueeze(-1) & (position >= 0) & (position < size)
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    return torch.where(inside.unsqueeze(1), circular_shift(x, shift), zero)


def random_shift(
    batch_size: int,
    max_shift: int,
    *,
    num_spatial_dims: int = 2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a shift for every sample, each axis uniformly from `-max_shift … max_shift`, inclusive.

    Args:
        batch_size: Number of shifts.
        max_shift: Largest shift along each axis, pixels, not negative.
        num_spatial_dims: Number of axes.
        generator: Source of randomness; the shifts lie on its device.

    Returns:
        Pixels, int64 of shape `(batch_size, num_spatial_dims)`.

    Raises:
        ValueError: If `max_shift` is negative.

    Source: Section 5.1.

    >>> random_shift(3, 4, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2])
    """
    if max_shift < 0:
        raise ValueError(f"Expected `max_shift` to be at least 0, but got {max_shift}.")
    return torch.randint(
        -max_shift,
        max_shift + 1,
        (batch_size, num_spatial_dims),
        generator=generator,
        device=None if generator is None else generator.device,
    )


def scores_to_shift(scores: Tensor) -> Tensor:
    """Read the shift off a map of scores: the place of its largest entry.

    Convention:
        Each axis of size `n` is given as `-(n // 2) … (n - 1) // 2`, so that small shifts of either
        sign look small. Ties go to the lowest index in row-major order; `break_ties` comes first
        where that will not do.

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
    _check_scores(scores)
    index = scores.flatten(1).argmax(1)
    axes = []
    for size in reversed(scores.shape[1:]):
        axes.append((index + size // 2) % size - size // 2)
        index = index // size
    return torch.stack(axes[::-1], dim=1)


def break_ties(scores: Tensor, key: Tensor) -> Tensor:
    """Keep the places with the largest score, and score them by `key` instead.

    Args:
        scores: Shape `(batch, *spatial)`, floating.
        key: Shape of `scores`, floating; equivariant, so that the choice moves with the image.

    Returns:
        `key` at the places whose score is the sample's largest, minus infinity elsewhere.

    Raises:
        ValueError: If `scores` has no spatial axis or an empty one, or `key` another shape.

    Source: own.

    >>> break_ties(torch.tensor([[5.0, 1.0, 5.0]]), torch.tensor([[3.0, 9.0, 4.0]]))
    tensor([[3., -inf, 4.]])
    """
    _check_scores(scores)
    if key.shape != scores.shape:
        raise ValueError(
            f"Expected `key` to have the shape of `scores`, {tuple(scores.shape)}, "
            f"but got {tuple(key.shape)}."
        )
    best = scores.amax(tuple(range(1, scores.ndim)), keepdim=True)
    return torch.where(scores == best, key, -math.inf)


def shift_to_index(shift: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Give the row-major index at which an estimator's score for `shift` stands.

    Args:
        shift: Pixels, int64 of shape `(batch, num_spatial_dims)`; any value, taken modulo the size.
        spatial_size: Size of each axis, pixels.

    Returns:
        int64 of shape `(batch,)`, from 0 to the number of positions less one.

    Raises:
        ValueError: If `shift` has another number of axes than `spatial_size`.

    Source: own; the inverse of `scores_to_shift`.

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
    """Say how far the best place is ahead of the second, for every sample.

    Args:
        scores: Shape `(batch, *spatial)`, floating.

    Returns:
        Not negative, shape `(batch,)`, dtype of `scores`. Scores trained by cross-entropy are
        log-probabilities up to a constant, so the margin is the log of the odds between both
        places. Infinite where there is only one place.

    Raises:
        ValueError: If `scores` has no spatial axis or an empty one.

    Source: own.

    >>> scores_to_margin(torch.tensor([[0.5, 3.0, 1.0]]))
    tensor([2.])
    """
    _check_scores(scores)
    flat = scores.flatten(1)
    if flat.shape[1] == 1:
        return torch.full_like(flat[:, 0], math.inf)
    best, second = flat.topk(2, dim=1).values.unbind(1)
    return best - second


def _source_positions(shift: Tensor, spatial_size: Sequence[int]) -> list[Tensor]:
    """Give, for each axis, where each output position is read: `(batch, 1, …, size)`, unwrapped."""
    positions = []
    for axis, size in enumerate(spatial_size):
        position = torch.arange(size, device=shift.device) - shift[:, axis, None]
        positions.append(position.reshape(shift.shape[0], *[1] * axis, size))
    return positions


def _check_shift(x: Tensor, shift: Tensor) -> None:
    if shift.dtype != torch.int64:
        raise TypeError(f"Expected `shift` to have dtype torch.int64, but got {shift.dtype}.")
    if x.ndim < 3:
        raise ValueError(
            f"Expected `x` to have shape (batch, channels, *spatial), but got {tuple(x.shape)}."
        )
    if shift.shape != (x.shape[0], x.ndim - 2):
        raise ValueError(
            f"Expected `shift` to have shape (batch, num_spatial_dims) = "
            f"{(x.shape[0], x.ndim - 2)}, but got {tuple(shift.shape)}."
        )


def _check_scores(scores: Tensor) -> None:
    if scores.ndim < 2 or 0 in scores.shape[1:]:
        raise ValueError(
            f"Expected `scores` to have shape (batch, *spatial) with at least one place, "
            f"but got {tuple(scores.shape)}."
        )
