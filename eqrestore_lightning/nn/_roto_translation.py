"""Translations and rotations together: first the one, then the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.functional import Fill, circular_shift, scores_to_shift
from eqrestore_lightning.nn._base import ShiftFunction, TrainableEstimator, fork
from eqrestore_lightning.nn._estimator import TranslationEstimator
from eqrestore_lightning.nn._rotation import RotationEstimator

_RIVAL_PIXELS = 2  # places as near to the best one, on both axes, belong to the same peak


class RotoTranslationEstimator(TrainableEstimator):
    """Score every shift of an image, and every angle of the image that the best shift leaves.

    For images that were turned about their centre, then shifted circularly. Both parts are trained
    together: the first finds turned images whatever their angle, the second learns to bear what
    the first leaves undone, for where a turned image belongs cannot be told to the pixel.
    Restoring is the same for every circular shift, **bit for bit**.

    Convention:
        An element is (down, right, angle): pixels as in `torch.roll`, and degrees counter-clockwise
        as displayed. Scores are those of all shifts, row by row, followed by those of all angles.

    Args:
        in_channels: Channels of the images.
        spatial_size: Height and width of the images, pixels.
        translation: Further arguments of the `TranslationEstimator`.
        rotation: Further arguments of the `RotationEstimator`.

    Attributes:
        translation: The `TranslationEstimator`.
        rotation: The `RotationEstimator`.

    Raises:
        ValueError: If a part cannot be built.

    Source: own.

    >>> estimator = RotoTranslationEstimator(1, (9, 8), translation={"kernel_size": 3},
    ...                                      rotation={"kernel_size": 3, "num_angles": 12})
    >>> estimator.exact_scores(torch.zeros(2, 1, 9, 8)).shape
    torch.Size([2, 84])
    """

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        translation: Mapping[str, Any],
        rotation: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.rotation = RotationEstimator(in_channels, spatial_size, **rotation)
        self.translation = TranslationEstimator(in_channels, spatial_size, **translation)
        self.spatial_size = self.translation.spatial_size

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        return {
            "in_channels": self.in_channels,
            "spatial_size": list(self.spatial_size),
            "translation": _options(self.translation.config),
            "rotation": _options(self.rotation.config),
        }

    @property
    def fill(self) -> Fill:
        """What enters at the corners of a restored image, see `rotate`; it may be set."""
        return self.rotation.fill

    @fill.setter
    def fill(self, fill: Fill) -> None:
        self.rotation.fill = fill

    @property
    def element_names(self) -> tuple[str, ...]:
        """What the entries of an element are called."""
        return ("down", "right", "angle")

    @property
    def periods(self) -> tuple[int, ...]:
        """After how much each entry of an element is as good as 0: pixels and degrees."""
        return (*self.translation.periods, *self.rotation.periods)

    def forward(self, x: Tensor) -> Tensor:
        """Score every shift, and every angle after the best shift is undone; differentiably.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, floating.

        Returns:
            Shape `(batch, height · width + num_angles)`, dtype of `x`.

        Raises:
            TypeError: If `x` is not floating.
            ValueError: If `x` has another shape.
        """
        shifts = self.translation(x)
        centred = circular_shift(x, -scores_to_shift(shifts.detach()))
        return torch.cat([shifts.flatten(1), self.rotation(centred)], 1)

    @torch.no_grad()
    def exact_scores(self, x: Tensor) -> Tensor:
        """Score every shift, and every angle after the best shift is undone.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, any real dtype; uint8 as it is.

        Returns:
            float64 of shape `(batch, height · width + num_angles)`.

        Raises:
            ValueError: If `x` has another shape.
        """
        shifts = self.translation.exact_scores(x)
        centred = self.translation.undo(x, self.translation.locate(shifts, x))
        return torch.cat([shifts.flatten(1), self.rotation.exact_scores(centred)], 1)

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Tensor:
        """Read off shift and angle from exact scores; equal ones are decided by content.

        Args:
            scores: What `exact_scores(x)` gave.
            x: The images scored.

        Returns:
            float64 of shape `(batch, 3)`, on the device of `x` (float32 on Apple's MPS).
        """
        shifts, angles = self._split(scores)
        shift = self.translation.locate(shifts, x)
        angle = self.rotation.locate(angles, self.translation.undo(x, shift))
        return torch.cat([shift.to(angle), angle], 1)

    def undo(self, x: Tensor, element: Tensor) -> Tensor:
        """Shift images back, exactly, then turn them back: one interpolation.

        Args:
            x: Images of shape `(batch, channels, height, width)`, any real dtype.
            element: Floating of shape `(batch, 3)`.

        Returns:
            A new tensor with the shape and dtype of `x`.
        """
        centred = self.translation.undo(x, element[:, :2].long())
        return self.rotation.undo(centred, element[:, 2:])

    def undo_mask(self, mask: Tensor, element: Tensor) -> Tensor:
        """Move masks of labels back, without mixing labels."""
        centred = self.translation.undo_mask(mask, element[:, :2].long())
        return self.rotation.undo_mask(centred, element[:, 2:])

    def margin(self, scores: Tensor) -> Tensor:
        """Say how far the best shift, and the best angle, are ahead of another peak.

        Neighbouring places always score much the same. The rival of a shift lies more than 2 pixels
        away on some axis, that of an angle 30° or more.

        Args:
            scores: What `exact_scores` gave.

        Returns:
            The smaller one of both log-odds, not negative, shape `(batch,)`, dtype of `scores`;
            infinite where no place lies so far away.
        """
        shifts, angles = self._split(scores)
        peaks = circular_shift(shifts.unsqueeze(1), -scores_to_shift(shifts)).squeeze(1)
        best = peaks[:, 0, 0]
        rows, columns = (
            torch.minimum(places, len(places) - places)
            for places in (torch.arange(size, device=scores.device) for size in self.spatial_size)
        )
        near = torch.maximum(rows.unsqueeze(1), columns) <= _RIVAL_PIXELS
        rivals = peaks.masked_fill(near, -torch.inf)
        return torch.minimum(best - rivals.flatten(1).amax(1), self.rotation.margin(angles))

    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do."""
        self.translation.scale_scores(factor)
        self.rotation.scale_scores(factor)

    def random_element(
        self,
        batch_size: int,
        *,
        max_shift: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw shifts as a `TranslationEstimator` and angles as a `RotationEstimator`; float32."""
        angle = self.rotation.random_element(batch_size, generator=fork(generator))
        shift = self.translation.random_element(
            batch_size, max_shift=max_shift, generator=generator
        )
        return torch.cat([shift.to(angle), angle], 1)

    def apply_element(
        self, x: Tensor, element: Tensor, *, shift: ShiftFunction = circular_shift
    ) -> Tensor:
        """Turn images, then shift them."""
        turned = self.rotation.apply_element(x, element[:, 2:])
        return self.translation.apply_element(turned, element[:, :2].long(), shift=shift)

    def loss(self, scores: Tensor, element: Tensor) -> Tensor:
        """Give the sum of both parts' cross-entropies."""
        shifts, angles = self._split(scores)
        return self.translation.loss(shifts, element[:, :2].long()) + self.rotation.loss(
            angles, element[:, 2:]
        )

    def constant(self, scores: Tensor) -> Tensor:
        """Tell for which images all shifts, or all angles, score the same."""
        shifts, angles = self._split(scores)
        return self.translation.constant(shifts) | self.rotation.constant(angles)

    def _split(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        angles = self.rotation.num_angles
        return scores[:, :-angles].reshape(-1, *self.spatial_size), scores[:, -angles:]


def _options(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in config if name not in ("in_channels", "spatial_size")}
