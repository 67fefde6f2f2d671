"""The base of all estimators of shifts."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.functional._exact import as_float64, best_index
from eqrestore_lightning.functional._shift import index_to_shift, shift_to_index
from eqrestore_lightning.motions import Element, Motion, Shift
from eqrestore_lightning.nn._base import Estimator


class ShiftEstimator(Estimator):
    """Find circular shifts along `axes`: scores have one entry for each of them."""

    axes: tuple[int, ...]

    @property
    @override
    def motion(self) -> Motion:
        return Shift(self.axes)

    @property
    @override
    def training_motion(self) -> Motion:
        # A shifted image teaches an equivariant network nothing new.
        return Shift(self.axes, max_shift=0)

    @override
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        # Among shifts with exactly equal scores, the one is chosen that, once undone, makes the
        # image correlate most with fixed patterns, so that the choice follows the image.
        index = best_index(scores, x, lambda some: join_axes(as_float64(some), self.axes))
        return {"shift": index_to_shift(index, scores.shape[1:]).to(x.device)}

    @override
    def loss(self, scores: Tensor, element: Element) -> Tensor:
        target = shift_to_index(element["shift"], scores.shape[1:])
        return F.cross_entropy(scores.flatten(1), target)


def join_axes(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Fold the spatial axes that are not among `axes` into the channels, which vary slowest."""
    if len(axes) == x.ndim - 2:
        return x
    still = [axis for axis in range(2 - x.ndim, 0) if axis not in axes]
    order = [0, 1, *(axis + x.ndim for axis in [*still, *axes])]
    return x.permute(order).flatten(1, 1 + len(still))
