"""An estimator of translations and rotations: the shift is found first, then the angle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.functional import Fill, circular_shift, scores_to_shift
from eqrestore_lightning.motions import Element, Motion, Product
from eqrestore_lightning.nn._base import Estimator, register_estimator
from eqrestore_lightning.nn._polar import RotationEstimator
from eqrestore_lightning.nn._translation import TranslationEstimator

_RIVAL_PIXELS = 2  # places this near to the best one, on both axes, belong to the same peak


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
    def motion(self) -> Motion:
        """A turn, then a circular shift."""
        return Product(self.rotation.motion, self.translation.motion)

    @property
    def training_motion(self) -> Motion:
        """A turn only, as the network is exactly equivariant to shifts."""
        return Product(self.rotation.training_motion, self.translation.training_motion)

    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        """Score every shift, and every angle once the best shift is undone.

        Returns:
            Shape `(batch, height · width + num_angles)`.
        """
        shifts = self.translation.score(x, exact=exact)
        if exact:
            centered = self.translation.motion.undo(x, self.translation.locate(shifts, x))
        else:
            centered = circular_shift(x, -scores_to_shift(shifts.detach()))
        return torch.cat([shifts.flatten(1), self.rotation.score(centered, exact=exact)], 1)

    @torch.no_grad()
    def estimate(self, x: Tensor) -> Element:
        """Find the shift, undo it, then find the angle, each as its own estimator does."""
        self.check_input(x)
        shift = self.translation.estimate(x)
        return {**self.rotation.estimate(self.translation.motion.undo(x, shift)), **shift}

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        """Return the best shift, and the best angle once it is undone.

        Args:
            scores: What `exact_scores(x)` returned.
            x: The images scored.

        Returns:
            `shift` and `angle`, as both estimators return them.
        """
        shifts, angles = self._split(scores)
        shift = self.translation.locate(shifts, x)
        angle = self.rotation.locate(angles, self.translation.motion.undo(x, shift))
        return {**angle, **shift}

    def margin(self, scores: Tensor) -> Tensor:
        """Compute how far the best shift, and the best angle, are ahead of another peak.

        Neighboring places always score similarly. The rival of a shift lies more than 2 pixels away
        on some axis, that of an angle 30° or more.

        Args:
            scores: What `exact_scores` returned.

        Returns:
            The smaller of the two log-odds, at least 0, shape `(batch,)`, dtype of `scores`;
            infinite where no place is that far away.
        """
        shifts, angles = self._split(scores)
        margin = _largest(shifts) - _largest(self._other_shifts(shifts))
        return torch.minimum(margin, self.rotation.margin(angles))

    def best_score(self, scores: Tensor) -> Tensor:
        """Return the sum of the best shift's and the best angle's score, shape `(batch,)`."""
        shifts, angles = self._split(scores)
        return _largest(shifts) + _largest(angles)

    def without_best(self, scores: Tensor) -> Tensor:
        """Exclude the best shift or the best angle, whichever is less ahead; see `Estimator`."""
        shifts, angles = self._split(scores)
        fewer_shifts, fewer_angles = self._other_shifts(shifts), self.rotation.without_best(angles)
        shift_gap = _largest(shifts) - _largest(fewer_shifts)
        nearer = shift_gap < _largest(angles) - _largest(fewer_angles)
        shifts = torch.where(nearer.reshape(-1, 1, 1), fewer_shifts, shifts)
        angles = torch.where(nearer.unsqueeze(1), angles, fewer_angles)
        return torch.cat([shifts.flatten(1), angles], 1)

    def evidence(self, scores: Tensor) -> Tensor:
        """Compute the log-odds of the best shift and angle against no motion; see `Estimator`."""
        shifts, angles = self._split(scores)
        ahead = [part.amax(1) - part[:, 0] for part in (shifts.flatten(1), angles)]
        others = math.prod(self.spatial_size) * self.rotation.num_angles - 1
        return ahead[0] + ahead[1] - math.log(max(1, others))

    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a positive factor, in place: margins change, estimates do not."""
        self.translation.scale_scores(factor)
        self.rotation.scale_scores(factor)

    def loss(self, scores: Tensor, element: Element) -> Tensor:
        """Compute the sum of the two cross-entropies."""
        shifts, angles = self._split(scores)
        return self.translation.loss(shifts, element) + self.rotation.loss(angles, element)

    def constant(self, scores: Tensor) -> Tensor:
        """Check for which images all shifts, or all angles, score the same."""
        shifts, angles = self._split(scores)
        return self.translation.constant(shifts) | self.rotation.constant(angles)

    def _other_shifts(self, shifts: Tensor) -> Tensor:
        """Exclude the best shift, and those within 2 pixels of it."""
        best = scores_to_shift(shifts)
        peaks = circular_shift(shifts.unsqueeze(1), -best)
        rows, columns = (
            torch.minimum(places, len(places) - places)
            for places in (torch.arange(size, device=shifts.device) for size in self.spatial_size)
        )
        near = torch.maximum(rows.unsqueeze(1), columns) <= _RIVAL_PIXELS
        return circular_shift(peaks.masked_fill(near, -torch.inf), best).squeeze(1)

    def _split(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        angles = self.rotation.num_angles
        return scores[:, :-angles].reshape(-1, *self.spatial_size), scores[:, -angles:]


def _largest(scores: Tensor) -> Tensor:
    return scores.flatten(1).amax(1)


def _options(config: dict[str, Any]) -> dict[str, Any]:
    built_in = ("in_channels", "spatial_size", "axes")
    return {name: value for name, value in config.items() if name not in built_in}
