"""How often two predictions agree."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from eqrestore_lightning.functional._errors import consistency


class Consistency(Metric):
    """Compute the share of samples that a classifier assigns to the same class after two motions.

    Args:
        kwargs: Passed to `torchmetrics.Metric`.

    Source: Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> metric = Consistency()
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
        """Add predictions after one motion and after another.

        Args:
            preds: Classes `(batch,)` or logits `(batch, num_classes)`.
            target: As `preds`, for the same samples after another motion.
        """
        same = consistency(preds, target)
        self.num_same += same.sum()
        self.num_samples += len(same)

    def compute(self) -> Tensor:
        """Return the share, from 0 to 1."""
        return self.num_same / self.num_samples
