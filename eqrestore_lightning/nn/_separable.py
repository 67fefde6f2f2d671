"""Estimators of shifts that score each axis by itself, for images of any size."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional import check_axes
from eqrestore_lightning.nn._shift import ShiftEstimator


class SeparableShiftEstimator(ShiftEstimator):
    """Score shifts of images of any size by the sum of what each axis scores.

    Subclasses score rows; columns are the rows of the transposed image.

    Args:
        in_channels: Channels of the images.
        axes: The axes along which images may have been shifted, negative as in torch, ascending;
            `(-2, -1)` by default.

    Raises:
        ValueError: If `in_channels` is below 1 or `axes` are not spatial axes.
    """

    scale: Tensor

    def __init__(self, in_channels: int, *, axes: Sequence[int] | None = None) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"Expected `in_channels` to be at least 1, but got {in_channels}.")
        self.in_channels = in_channels
        self.spatial_size = None
        self.axes = check_axes(axes, 2)
        self.register_buffer("scale", torch.ones(()))

    @abstractmethod
    def score_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Score rows.

        Args:
            x: Images that `prepare` returned, or their transpose.
            dtype: float64 if scores must be exact.

        Returns:
            Shape `(batch, rows)`, of `dtype`.
        """

    @abstractmethod
    def prepare(self, x: Tensor) -> Tensor:
        """Return the images as `score_rows` needs them; the shape stays."""

    @torch.no_grad()
    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do.

        Raises:
            ValueError: If `factor` is not finite or not above 0.
        """
        if not 0 < factor < math.inf:
            raise ValueError(f"Expected `factor` to be finite and above 0, but got {factor}.")
        self.scale.mul_(factor)

    def score_axes(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Score every shift: the sum over the axes, times `scale`.

        Args:
            x: Shape `(batch, in_channels, height, width)`, any real dtype.
            dtype: Of the scores; float64 if they must be exact.

        Returns:
            Shape `(batch, *sizes of axes)`.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = self.prepare(x)
            scores = [
                self.score_rows(x if axis == -2 else x.transpose(2, 3), dtype) for axis in self.axes
            ]
            total = scores[0]
            for other in scores[1:]:
                total = total.unsqueeze(2) + other.unsqueeze(1)
            return total * self.scale.to(total)
