"""Estimators of shifts that score each axis by itself, for images of any size."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional import check_axes
from eqrestore_lightning.nn._base import check_factor
from eqrestore_lightning.nn._shift import ShiftEstimator


class SeparableShiftEstimator(ShiftEstimator):
    """Score shifts of images of any size by the sum of what each axis scores.

    Subclasses score rows; the places along any other axis are scored as if they were rows.

    Args:
        in_channels: Channels of the images.
        axes: The axes along which images may have been shifted, negative as in torch, ascending;
            all by default.
        num_spatial_dims: Number of spatial axes: 1 for signals, 2 for images, 3 for volumes.

    Raises:
        ValueError: If a number is out of range or `axes` are not spatial axes.
    """

    scale: Tensor

    def __init__(
        self, in_channels: int, *, axes: Sequence[int] | None = None, num_spatial_dims: int = 2
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"Expected `in_channels` to be at least 1, but got {in_channels}.")
        self.in_channels = in_channels
        self.spatial_size = None
        if not 1 <= num_spatial_dims <= 3:
            raise ValueError(
                f"Expected `num_spatial_dims` to be from 1 to 3, but got {num_spatial_dims}."
            )
        self.axes = check_axes(axes, num_spatial_dims)
        self._num_spatial_dims = num_spatial_dims
        self.register_buffer("scale", torch.ones(()))

    @property
    def num_spatial_dims(self) -> int:
        """Number of spatial axes of the images."""
        return self._num_spatial_dims

    @abstractmethod
    def score_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Score the places along one axis, as if they were the rows of an image.

        Args:
            x: What `prepare` returned, of shape `(batch, channels, rows, others)`: the axis to
                score, and all other spatial axes as one.
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
        check_factor(factor)
        self.scale.mul_(factor)

    def score_axes(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Score every shift: the sum over the axes, times `scale`.

        Args:
            x: Shape `(batch, in_channels, *spatial)`, any real dtype.
            dtype: Of the scores; float64 if they must be exact.

        Returns:
            Shape `(batch, *sizes of axes)`.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = self.prepare(x)
            total = x.new_zeros((), dtype=dtype)
            for axis in self.axes:
                rows = x.movedim(axis, 2)
                rows = rows.flatten(3) if rows.ndim > 3 else rows.unsqueeze(3)
                scores = self.score_rows(rows, dtype)
                view = scores[(slice(None), *[None] * (total.ndim - 1))]
                total = scores if total.ndim == 0 else total.unsqueeze(-1) + view
            return total * self.scale.to(total)
