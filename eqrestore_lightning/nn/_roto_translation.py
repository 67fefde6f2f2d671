"""An estimator of translations and rotations: the shift is found first, then the angle."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._rotation import Fill
from eqrestore_lightning.functional._shift import scores_to_shift
from eqrestore_lightning.motions import Element, Motion, Product
from eqrestore_lightning.nn._base import Estimator, register_estimator
from eqrestore_lightning.nn._rotation import RotationEstimator
from eqrestore_lightning.nn._translation import TranslationEstimator

_PEAK_PIXELS = 2  # places this near to the best one, on both axes, belong to the same peak


@register_estimator
class RotoTranslationEstimator(Estimator):
    """Score every shift of an image, and every angle once the best shift is undone.

    For images that were turned about their center, then shifted circularly. Both parts are trained
    together: the first finds turned images whatever their angle, and the second learns to tolerate
    the errors of the first, because the place of a turned image is not defined to the pixel. All
    circular shifts of an image are restored to the same image, **bit for bit**.

    Convention:
        Scores are those of all shifts, row by row, followed by those of all angles.

    Args:
        in_channels: Channels of the images.
        spatial_size: Height and width of the images, pixels.
        translation: Further arguments of the `TranslationEstimator`.
        rotation: Further arguments of the `RotationEstimator`.

    Shapes:
        Input `(batch, in_channels, height, width)`, floating; output
        `(batch, height · width + num_angles)`.

    Attributes:
        translation: The `TranslationEstimator`.
        rotation: The `RotationEstimator`.

    Raises:
        ValueError: If a part cannot be built.

    >>> estimator = RotoTranslationEstimator(1, (9, 8), translation={"kernel_size": 3},
    ...                                      rotation={"kernel_size": 3, "num_angles": 12})
    >>> estimator.exact_scores(torch.zeros(2, 1, 9, 8)).shape
    torch.Size([2, 84])
    """

    spatial_size: tuple[int, ...]

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
        self.translation = TranslationEstimator(in_channels, spatial_size, axes=None, **translation)
        self.spatial_size = self.translation.spatial_size

    @property
    @override
    def config(self) -> dict[str, Any]:
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
    @override
    def motion(self) -> Motion:
        return Product(self.rotation.motion, self.translation.motion)

    @property
    @override
    def training_motion(self) -> Motion:
        return Product(self.rotation.training_motion, self.translation.training_motion)

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        shifts = self.translation.score(x, exact=exact)
        if exact:
            centered = self.translation.motion.undo(x, self.translation.locate(shifts, x))
        else:
            centered = circular_shift(x, -scores_to_shift(shifts.detach()))
        return torch.cat([shifts.flatten(1), self.rotation.score(centered, exact=exact)], 1)

    @torch.no_grad()
    @override
    def estimate(self, x: Tensor) -> Element:
        self.check_input(x)
        shift = self.translation.estimate(x)
        return {**self.rotation.estimate(self.translation.motion.undo(x, shift)), **shift}

    @torch.no_grad()
    @override
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        shifts, angles = self.split(scores)
        shift = self.translation.locate(shifts.reshape(-1, *self.spatial_size), x)
        angle = self.rotation.locate(angles, self.translation.motion.undo(x, shift))
        return {**angle, **shift}

    @override
    def split(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Split scores into those of all shifts and those of all angles."""
        num_angles = self.rotation.num_angles
        return scores[:, :-num_angles], scores[:, -num_angles:]

    @override
    def same_peak(self, scores: Tensor) -> Tensor:
        """Find the scores of shifts within 2 pixels of the best one, and of angles within 30°."""
        shifts, angles = self.split(scores)
        best = scores_to_shift(shifts.reshape(-1, *self.spatial_size))
        rows, columns = (
            torch.minimum(places, size - places) <= _PEAK_PIXELS
            for size, place in zip(self.spatial_size, best.unbind(1), strict=True)
            for places in [(torch.arange(size, device=best.device) - place.unsqueeze(1)) % size]
        )
        near = (rows.unsqueeze(2) & columns.unsqueeze(1)).flatten(1)
        return torch.cat([near, self.rotation.same_peak(angles)], 1)

    @override
    def scale_scores(self, factor: float) -> None:
        self.translation.scale_scores(factor)
        self.rotation.scale_scores(factor)

    @override
    def loss(self, scores: Tensor, element: Element) -> Tensor:
        shifts, angles = self.split(scores)
        shifts = shifts.reshape(-1, *self.spatial_size)
        return self.translation.loss(shifts, element) + self.rotation.loss(angles, element)


def _options(config: dict[str, Any]) -> dict[str, Any]:
    built_in = ("in_channels", "spatial_size", "axes")
    return {name: value for name, value in config.items() if name not in built_in}
