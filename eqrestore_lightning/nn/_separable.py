"""Estimators of shifts that score each axis by itself, for images of any size."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.functional._shift import check_axes, index_to_shift
from eqrestore_lightning.functional._traced import is_traced
from eqrestore_lightning.motions import Element
from eqrestore_lightning.nn._base import check_factor, split_batch
from eqrestore_lightning.nn._shift import ShiftEstimator

_PIXELS_AT_ONCE = 2**18  # which stay in the cache of a CPU


class SeparableShiftEstimator(ShiftEstimator):
    """Score shifts of images of any size by the sum of what each axis scores, as rows."""

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
    @override
    def num_spatial_dims(self) -> int:
        return self._num_spatial_dims

    @abstractmethod
    def score_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Score the places along one axis, as rows of `(batch, channels, rows, others)`."""

    @abstractmethod
    def prepare(self, x: Tensor) -> Tensor:
        """Return the images as `score_rows` needs them; the shape stays."""

    @torch.no_grad()
    @override
    def scale_scores(self, factor: float) -> None:
        check_factor(factor)
        self.scale.mul_(factor)

    @override
    def estimate(self, x: Tensor) -> Element:
        # On each axis by itself. Where the best place of each is ahead by more than 2^-40 of all
        # magnitudes, which is far more than adding the axes rounds by, no other shift can have the
        # same score or a larger one. Otherwise, as for blank images, those of all shifts decide.
        self.check_input(x)
        if is_traced(x):
            return super().estimate(x)
        with torch.no_grad():
            axes = self.score_each_axis(x, torch.float64)
        doubt = 2.0**-40 * sum((scores.abs().amax(1) for scores in axes), torch.zeros(()))
        best = [scores.topk(min(2, scores.shape[1]), 1).values for scores in axes]
        if not all(bool((two[:, 0] - two[:, -1] > doubt).all()) for two in best):
            return self.locate(self._combined(axes), x)
        columns = [index_to_shift(scores.argmax(1), scores.shape[1:]) for scores in axes]
        return {"shift": torch.cat(columns, 1).to(x.device)}

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        return self._combined(self.score_each_axis(x, torch.float64 if exact else x.dtype))

    def score_each_axis(self, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Score the places along each axis, `(batch, size)`; large batches in parts."""
        with torch.autocast(x.device.type, enabled=False):
            scored = [self._score_part(part, dtype) for part in split_batch(x, _PIXELS_AT_ONCE)]
        return [torch.cat(axis) if len(axis) > 1 else axis[0] for axis in zip(*scored, strict=True)]

    def _score_part(self, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
        x = self.prepare(x)
        axes = []
        for axis in self.axes:
            rows = x.movedim(axis, 2)
            rows = rows.flatten(3) if rows.ndim > 3 else rows.unsqueeze(3)
            axes.append(self.score_rows(rows, dtype))
        return axes

    def _combined(self, axes: list[Tensor]) -> Tensor:
        """Return the scores of all shifts."""
        total, *others = axes
        for scores in others:
            total = total.unsqueeze(-1) + scores[(slice(None), *[None] * (total.ndim - 1))]
        return total * self.scale.to(total)
