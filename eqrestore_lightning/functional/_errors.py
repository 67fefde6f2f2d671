"""Distances between motions, and agreement between predictions: the arithmetic of the metrics."""

from collections.abc import Sequence

import torch
from torch import Tensor


def circular_error(estimated: Tensor, target: Tensor, period: Sequence[int]) -> Tensor:
    """Compute the absolute error of `(batch,)` or `(batch, columns)`, the shorter way around."""
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
    """Check which estimates are correct to within `tolerance` in every column: `(batch,)`."""
    right = circular_error(estimated, target, period) <= tolerance
    return right if right.ndim == 1 else right.all(1)


def motion_distance(estimated: Tensor, target: Tensor, period: Sequence[int]) -> Tensor:
    """Compute the Euclidean distance over columns, each measured the shorter way around."""
    error = circular_error(estimated, target, period)
    if not error.is_floating_point():
        error = error.float()
    if error.ndim == 1:
        return error
    distance: Tensor = torch.linalg.vector_norm(error, dim=1)
    return distance


def consistency(preds: Tensor, target: Tensor) -> Tensor:
    """Check which samples have the same class in two sets of classes or logits (Zhang, 2019)."""
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
