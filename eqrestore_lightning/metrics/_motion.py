"""How close estimated motions come to the true ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from eqrestore_lightning.functional._errors import motion_accuracy, motion_distance
from eqrestore_lightning.motions import Field


class MotionAccuracy(Metric):
    """Compute the share of estimates that are correct to within `tolerance` in every column.

    Args:
        tolerance: Largest error that counts as correct, measured the shorter way around, in the
            unit of the values; 0 for exact estimates.
        kwargs: Passed to `torchmetrics.Metric`.

    Raises:
        ValueError: If `tolerance` is negative.

    >>> metric = MotionAccuracy()
    >>> metric.update(torch.tensor([[3, 4], [3, 5]]), torch.tensor([[3, 36], [3, 4]]), (32, 32))
    >>> metric.compute()
    tensor(0.5000)
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    num_correct: Tensor
    num_samples: Tensor

    def __init__(self, *, tolerance: float = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not tolerance >= 0:
            raise ValueError(f"Expected `tolerance` to be at least 0, but got {tolerance}.")
        self.tolerance = tolerance
        # A state, as `MetricCollection` takes metrics of equal states for one and the same.
        self.add_state("largest_error", torch.tensor(float(tolerance)), dist_reduce_fx="max")
        self.add_state("num_correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, estimated: Tensor, target: Tensor, period: Sequence[int]) -> None:
        """Add a batch of estimates.

        Args:
            estimated: Values of shape `(batch,)` or `(batch, num_columns)`.
            target: The true ones, of the same shape.
            period: The value of each column that is equivalent to 0, see `circular_error`.
        """
        right = motion_accuracy(estimated, target, period, tolerance=self.tolerance)
        self.num_correct += right.sum()
        self.num_samples += len(right)

    def compute(self) -> Tensor:
        """Return the share, from 0 to 1."""
        return self.num_correct / self.num_samples


class MotionDistance(Metric):
    """Compute the mean distance between estimates and true values, measured the shorter way around.

    Args:
        kwargs: Passed to `torchmetrics.Metric`.

    >>> metric = MotionDistance()
    >>> metric.update(torch.tensor([3.0, -178.0]), torch.tensor([14.0, 175.0]), (360,))
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

    def update(self, estimated: Tensor, target: Tensor, period: Sequence[int]) -> None:
        """Add a batch of estimates; arguments as for `MotionAccuracy`."""
        distance = motion_distance(estimated, target, period)
        self.total += distance.sum()
        self.num_samples += len(distance)

    def compute(self) -> Tensor:
        """Return the mean, in the unit of the values."""
        return self.total / self.num_samples


def motion_metrics(field: Field) -> dict[str, Metric]:
    """Build the metrics of one field of a motion, by the names under which they are logged.

    >>> from eqrestore_lightning.motions import Shift
    >>> list(motion_metrics(Shift().fields[0]))
    ['shift_accuracy', 'shift_accuracy_1px', 'shift_distance']
    """
    accuracies: dict[str, Metric] = {
        f"{field.name}_accuracy{suffix}": MotionAccuracy(tolerance=tolerance)
        for suffix, tolerance in field.tolerances.items()
    }
    return {**accuracies, f"{field.name}_distance": MotionDistance()}
