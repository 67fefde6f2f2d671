"""The arithmetic of the metrics."""

from collections.abc import Sequence

import torch
from torch import Tensor


def circular_shift_error(estimated: Tensor, target: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Give the error of each axis by the shorter way around.

    Args:
        estimated: Pixels, int64 of shape `(batch, num_spatial_dims)`; any value, taken modulo the
            size.
        target: As `estimated`.
        spatial_size: Size of each axis, pixels.

    Returns:
        Pixels, int64 of shape `(batch, num_spatial_dims)`, from 0 to half the size.

    Raises:
        ValueError: If the shapes differ or are not `(batch, num_spatial_dims)`.

    Source: own.

    >>> circular_shift_error(torch.tensor([[31, 2]]), torch.tensor([[0, 4]]), (32, 32))
    tensor([[1, 2]])
    """
    expected = (target.shape[0], len(spatial_size))
    if estimated.shape != expected or target.shape != expected:
        raise ValueError(
            f"Expected `estimated` and `target` to have shape (batch, {len(spatial_size)}), "
            f"but got {tuple(estimated.shape)} and {tuple(target.shape)}."
        )
    size = torch.tensor(spatial_size, device=target.device)
    forward = (estimated - target) % size
    return torch.minimum(forward, size - forward)


def circular_shift_distance(
    estimated: Tensor, target: Tensor, spatial_size: Sequence[int]
) -> Tensor:
    """Give the Euclidean distance between shifts on a lattice that wraps around.

    Args:
        estimated: Pixels, int64 of shape `(batch, num_spatial_dims)`.
        target: As `estimated`.
        spatial_size: Size of each axis, pixels.

    Returns:
        Pixels, float32 of shape `(batch,)`.

    Raises:
        ValueError: If the shapes differ or are not `(batch, num_spatial_dims)`.

    Source: own.

    >>> circular_shift_distance(torch.tensor([[-3, 4]]), torch.tensor([[0, 0]]), (32, 32))
    tensor([5.])
    """
    error = circular_shift_error(estimated, target, spatial_size)
    distance: Tensor = torch.linalg.vector_norm(error.float(), dim=1)
    return distance


def angle_error(estimated: Tensor, target: Tensor) -> Tensor:
    """Give the error of angles by the shorter way around.

    Args:
        estimated: Degrees, floating of any shape; any value, taken modulo 360.
        target: As `estimated`, of the same shape.

    Returns:
        Degrees from 0 to 180, of the same shape.

    Raises:
        ValueError: If the shapes differ.

    Source: own.

    >>> angle_error(torch.tensor([-170.0, 3.0]), torch.tensor([175.0, 363.0]))
    tensor([15.,  0.])
    """
    if estimated.shape != target.shape:
        raise ValueError(
            f"Expected `estimated` and `target` to have one shape, "
            f"but got {tuple(estimated.shape)} and {tuple(target.shape)}."
        )
    return ((estimated - target + 180) % 360 - 180).abs()


def same_class(preds: Tensor, target: Tensor) -> Tensor:
    """Say for which samples two sets of predictions name the same class.

    Args:
        preds: Classes, integer of shape `(batch,)`, or logits of shape `(batch, num_classes)`.
        target: As `preds`, for the same samples under another shift.

    Returns:
        bool of shape `(batch,)`.

    Raises:
        ValueError: If the numbers of samples differ, or a shape is another one.

    Source: consistency as in Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> same_class(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
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
