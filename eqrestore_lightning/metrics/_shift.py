"""How close estimated shifts come to the true ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from eqrestore_lightning.functional import (
    circular_shift_distance,
    circular_shift_error,
    same_class,
)


class ShiftAccuracy(Metric):
    """Share of samples whose shift is estimated to within `tolerance` pixels on every axis.

    Args:
        spatial_size: Size of each axis, pixels.
        tolerance: Largest error counted as right on each axis, the shorter way around; 0 for
            samples restored exactly.
        kwargs: Passed to `torchmetrics.Metric`.

    Raises:
        ValueError: If `tolerance` is negative.

    Source: own.

    >>> metric = ShiftAccuracy((32, 32))
    >>> metric.update(torch.tensor([[3, 4], [3, 5]]), torch.tensor([[3, 36], [3, 4]]))
    >>> metric.compute()
    tensor(0.5000)
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    num_correct: Tensor
    num_samples: Tensor

    def __init__(self, spatial_size: Sequence[int], *, tolerance: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if tolerance < 0:
            raise ValueError(f"Expected `tolerance` to be at least 0, but got {tolerance}.")
        self.spatial_size = tuple(spatial_size)
        self.tolerance = tolerance
        self.add_state("num_correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, estimated: Tensor, target: Tensor) -> None:
        """Add a batch of shifts, int64 of shape `(batch, num_spatial_dims)`, pixels."""
        error = circular_shift_error(estimated, target, self.spatial_size)
        self.num_correct += (error <= self.tolerance).all(1).sum()
        self.num_samples += len(error)

    def compute(self) -> Tensor:
        """Give the share, from 0 to 1."""
        return self.num_correct / self.num_samples


class CircularShiftDistance(Metric):
    """Mean Euclidean distance between estimated and true shifts, pixels, the shorter way around.

    Args:
        spatial_size: Size of each axis, pixels.
        kwargs: Passed to `torchmetrics.Metric`.

    Source: own.

    >>> metric = CircularShiftDistance((32, 32))
    >>> metric.update(torch.tensor([[3, 28], [0, 0]]), torch.tensor([[0, 0], [0, 0]]))
    >>> metric.compute()
    tensor(2.5000)
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    num_samples: Tensor

    def __init__(self, spatial_size: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spatial_size = tuple(spatial_size)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, estimated: Tensor, target: Tensor) -> None:
        """Add a batch of shifts, int64 of shape `(batch, num_spatial_dims)`, pixels."""
        distance = circular_shift_distance(estimated, target, self.spatial_size)
        self.total += distance.sum()
        self.num_samples += len(distance)

    def compute(self) -> Tensor:
        """Give the mean, pixels."""
        return self.total / self.num_samples


class ShiftConsistency(Metric):
    """Share of samples that a classifier puts into the same class under two shifts.

    Args:
        kwargs: Passed to `torchmetrics.Metric`.

    Source: Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> metric = ShiftConsistency()
    >>> metric.update(torch.tensor([3, 1, 4]), torch.tensor([3, 1, 5]))
    >>> metric.compute()
    tensor(0.6667)
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    num_same: Tensor
    num_samples: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("num_same", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add predictions under one shift and under another.

        Args:
            preds: Classes `(batch,)` or logits `(batch, num_classes)`.
            target: As `preds`, for the same samples under another shift.
        """
        same = same_class(preds, target)
        self.num_same += same.sum()
        self.num_samples += len(same)

    def compute(self) -> Tensor:
        """Give the share, from 0 to 1."""
        return self.num_same / self.num_samples
