"""How close estimated angles come to the true ones."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from eqrestore_lightning.functional import angle_error


class AngleAccuracy(Metric):
    """Share of samples whose angle is estimated to within `tolerance` degrees.

    Args:
        tolerance: Largest error counted as right, degrees, the shorter way around.
        kwargs: Passed to `torchmetrics.Metric`.

    Raises:
        ValueError: If `tolerance` is negative.

    Source: own.

    >>> metric = AngleAccuracy(tolerance=10)
    >>> metric.update(torch.tensor([[3.0], [-178.0]]), torch.tensor([[14.0], [175.0]]))
    >>> metric.compute()
    tensor(0.5000)
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    num_correct: Tensor
    num_samples: Tensor

    def __init__(self, *, tolerance: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not tolerance >= 0:
            raise ValueError(f"Expected `tolerance` to be at least 0, but got {tolerance}.")
        self.tolerance = tolerance
        self.add_state("num_correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, estimated: Tensor, target: Tensor) -> None:
        """Add a batch of angles, degrees, floating of any one shape."""
        error = angle_error(estimated, target)
        self.num_correct += (error <= self.tolerance).sum()
        self.num_samples += error.numel()

    def compute(self) -> Tensor:
        """Give the share, from 0 to 1."""
        return self.num_correct / self.num_samples


class AngleDistance(Metric):
    """Mean distance between estimated and true angles, degrees, the shorter way around.

    Args:
        kwargs: Passed to `torchmetrics.Metric`.

    Source: own.

    >>> metric = AngleDistance()
    >>> metric.update(torch.tensor([[3.0], [-178.0]]), torch.tensor([[14.0], [175.0]]))
    >>> metric.compute()
    tensor(9.)
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    num_samples: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, estimated: Tensor, target: Tensor) -> None:
        """Add a batch of angles, degrees, floating of any one shape."""
        error = angle_error(estimated, target)
        self.total += error.sum()
        self.num_samples += error.numel()

    def compute(self) -> Tensor:
        """Give the mean, degrees."""
        return self.total / self.num_samples
