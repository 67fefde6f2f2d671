"""Rules that find the seam of a wrapped image without training: baselines for any size."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.nn._base import register_estimator
from eqrestore_lightning.nn._integer import to_levels
from eqrestore_lightning.nn._separable import SeparableShiftEstimator

SeamMeasure: TypeAlias = Literal[
    "difference", "second-difference", "relative-difference", "relative-second-difference"
]

_LEVELS = 65_535


@register_estimator
class SeamRule(SeparableShiftEstimator):
    """Find the seam of the wrap-around where neighboring rows, and columns, differ most.

    Nothing is trained. With `d_i = Σ |x_i − x_{i−1}|`, summed over the channels and along row `i`,
    and `c_i = Σ |2 s_i − s_{i−1} − s_{i+1}|` with the steps `s_i = x_i − x_{i−1}`, the score of row
    `i` is `d_i` (`"difference"`), `c_i` (`"second-difference"`), `d_i / (d_{i−1} + d_{i+1})`
    (`"relative-difference"`, not misled by texture) or `c_i / (d_{i−2} + d_{i−1} + d_{i+1} +
    d_{i+2})` (`"relative-second-difference"`, the best of them on photographs). Pixels are mapped
    to integers from 0 to 65,535 first: all sums are exact.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        axes: Sequence[int] | None = None,
        measure: SeamMeasure = "relative-second-difference",
        num_spatial_dims: int = 2,
    ) -> None:
        super().__init__(in_channels, axes=axes, num_spatial_dims=num_spatial_dims)
        if measure not in get_args(SeamMeasure):
            raise ValueError(
                f"Expected `measure` to be one of {get_args(SeamMeasure)}, but got {measure!r}."
            )
        self.measure = measure

    @property
    @override
    def config(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "axes": list(self.axes),
            "measure": self.measure,
            "num_spatial_dims": self.num_spatial_dims,
        }

    @override
    def prepare(self, x: Tensor) -> Tensor:
        return as_float64(to_levels(x, _LEVELS))

    @override
    def score_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        del dtype  # always float64: nothing here can be trained
        steps = x - x.roll(1, 2)
        sizes = steps.abs().sum((1, 3))
        if self.measure == "difference":
            return sizes
        beside = sizes.roll(1, 1) + sizes.roll(-1, 1)
        if self.measure == "relative-difference":
            return sizes / beside.clamp(min=1)
        bends = (2 * steps - steps.roll(1, 2) - steps.roll(-1, 2)).abs().sum((1, 3))
        if self.measure == "second-difference":
            return bends
        return bends / (beside + (sizes.roll(2, 1) + sizes.roll(-2, 1))).clamp(min=1)
