"""Distances between motions, and agreement between predictions: the arithmetic of the metrics."""

from collections.abc import Sequence

import torch
from torch import Tensor


def circular_error(estimated: Tensor, target: Tensor, period: Sequence[int]) -> Tensor:
    """Compute the absolute error of values that wrap around, by the shorter way around.

    Args:
        estimated: Integers or floating, of shape `(batch,)` or `(batch, num_columns)`, in the unit
            of `period`; any value, taken modulo the period.
        target: As `estimated`.
        period: The value that is equivalent to 0, one for each column: the size of each axis for
            shifts, `(360,)` for degrees.

    Returns:
        Shape and dtype of `estimated`, from 0 to half the period.

    Raises:
        ValueError: If the shapes differ, or `period` does not have one entry for each column.

    >>> circular_error(torch.tensor([[31, 2]]), torch.tensor([[0, 4]]), (32, 32))
    tensor([[1, 2]])
    >>> circular_error(torch.tensor([-170.0, 3.0]), torch.tensor([175.0, 363.0]), (360,))
    tensor([15.,  0.])
    """
    if estimated.shape != target.shape or estimated.ndim not in (1, 2):
        raise ValueError(
            f"Expected `estimated` and `target` to have the same shape, (batch,) or "
            f"(batch, num_columns), but got {tuple(estimated.shape)} and {tuple(target.shape)}."
        )
    columns = estimated.shape[1] if estimated.ndim == 2 else 1
    if len(period) != columns:
        raise ValueError(
            f"Expected `period` to have {columns} entries, one for each column, "
            f"but got {tuple(period)}."
        )
    size = torch.tensor(tuple(period), device=target.device)
    forward = (estimated - target) % size
    return torch.minimum(forward, size - forward).abs()  # no negative zero


def motion_accuracy(
    estimated: Tensor, target: Tensor, period: Sequence[int], *, tolerance: float = 0
) -> Tensor:
    """Check which estimates are correct to within `tolerance` in every column.

    Args:
        estimated: As for `circular_error`.
        target: As `estimated`.
        period: As for `circular_error`.
        tolerance: Largest error that counts as correct, in the unit of the values; 0 for exact.

    Returns:
        bool of shape `(batch,)`.

    Raises:
        ValueError: If the shapes or `period` do not match, or `tolerance` is negative.

    >>> motion_accuracy(torch.tensor([[3, 4], [3, 6]]), torch.tensor([[3, 36], [3, 4]]), (32, 32))
    tensor([ True, False])
    """
    if not tolerance >= 0:
        raise ValueError(f"Expected `tolerance` to be at least 0, but got {tolerance}.")
    right = circular_error(estimated, target, period) <= tolerance
    return right if right.ndim == 1 else right.all(1)


def motion_distance(estimated: Tensor, target: Tensor, period: Sequence[int]) -> Tensor:
    """Compute the Euclidean distance over columns, each measured the shorter way around.

    Args:
        estimated: As for `circular_error`.
        target: As `estimated`.
        period: As for `circular_error`.

    Returns:
        Floating of shape `(batch,)`, in the unit of the values; float32 for integers.

    Raises:
        ValueError: If the shapes or `period` do not match.

    >>> motion_distance(torch.tensor([[-3, 4]]), torch.tensor([[0, 0]]), (32, 32))
    tensor([5.])
    """
    error = circular_error(estimated, target, period)
    if not error.is_floating_point():
        error = error.float()
    if error.ndim == 1:
        return error
    distance: Tensor = torch.linalg.vector_norm(error, dim=1)
    return distance


def consistency(preds: Tensor, target: Tensor) -> Tensor:
    """Check which samples two sets of predictions assign to the same class.

    Args:
        preds: Classes, integer of shape `(batch,)`, or logits of shape `(batch, num_classes)`.
        target: As `preds`, for the same samples after another motion.

    Returns:
        bool of shape `(batch,)`.

    Raises:
        ValueError: If the numbers of samples differ, or a shape is neither of these.

    Source: Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> consistency(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    tensor([ True, False])
    """
    first, second = _classes(preds, "preds"), _classes(target, "target")
    if first.shape != second.shape:
        raise ValueError(
            f"Expected `preds` and `target` to have the same number of samples, "
            f"but got {len(first)} and {len(second)}."
        )
    return first == second


def _classes(preds: Tensor, name: str) -> Tensor:
    if preds.ndim not in (1, 2):
        raise ValueError(
            f"Expected `{name}` to have shape (batch,) or (batch, num_classes), "
            f"but got {tuple(preds.shape)}."
        )
    return preds if preds.ndim == 1 else preds.argmax(1)
