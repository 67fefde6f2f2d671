"""An estimator that scores all turned and mirrored copies of an image."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eqrestore_lightning.functional import (
    as_float64,
    best_index_by_content,
    index_to_shift,
    shift_to_index,
)
from eqrestore_lightning.motions import Element, Motion, Product, QuarterTurn, Shift
from eqrestore_lightning.nn._base import Estimator, register_estimator
from eqrestore_lightning.nn._translation import TranslationEstimator


@register_estimator
class QuarterTurnEstimator(Estimator):
    """Score every quarter turn of an image, and optionally every mirror image, copy by copy.

    One `TranslationEstimator` scores the four turned copies of an image, or all eight with their
    mirror images; the largest score over copies and shifts is the estimate. Moving an image
    permutes its copies, so that all its turned, mirrored and shifted versions are restored to the
    same image, **bit for bit**, whatever the weights.

    Convention:
        An image was shifted, then mirrored left to right if `mirrored` is 1, then turned by
        `quarters` · 90°, counter-clockwise as displayed.

    Args:
        in_channels: Channels of the images.
        spatial_size: Height and width of the images, pixels; they must be equal.
        mirrors: Whether images may have been mirrored.
        shifts: Whether images may have been shifted, circularly. If not, the network only scores
            whether each copy looks unmoved.
        options: Further arguments of the `TranslationEstimator`.

    Shapes:
        Input `(batch, in_channels, size, size)`, floating; output `(batch, copies, size, size)`,
        without `shifts` `(batch, copies)`. Copy `4 · mirrored + quarters` is the image with that
        motion undone.

    Attributes:
        network: The `TranslationEstimator`.

    Raises:
        ValueError: If images are not square, or a number is out of range.

    Source: Frame averaging over a finite group (Puny et al., 2022), with the largest score instead
    of a mean.

    >>> estimator = QuarterTurnEstimator(1, (9, 9), mirrors=True, kernel_size=3)
    >>> x = torch.rand(1, 1, 9, 9)
    >>> turned = torch.rot90(x, 1, (2, 3)).flip(3).roll(5, 2)
    >>> first, second = (
    ...     estimator.motion.undo(y, estimator.locate(estimator.exact_scores(y), y))
    ...     for y in (x, turned)
    ... )
    >>> torch.equal(first, second)
    True
    """

    spatial_size: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        mirrors: bool = False,
        shifts: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        if len(spatial_size) != 2 or spatial_size[0] != spatial_size[1]:
            raise ValueError(
                f"Expected `spatial_size` to be that of a square, but got {tuple(spatial_size)}."
            )
        self.in_channels = in_channels
        self.mirrors = mirrors
        self.shifts = shifts
        self.network = TranslationEstimator(in_channels, spatial_size, axes=None, **options)
        self.spatial_size = self.network.spatial_size

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        options = self.network.config
        del options["axes"]
        return {**options, "mirrors": self.mirrors, "shifts": self.shifts}

    @property
    def motion(self) -> Motion:
        """Quarter turns, and mirror images and shifts if the estimator finds them."""
        return self._motion(Shift())

    @property
    def training_motion(self) -> Motion:
        """The same without shifts."""
        return self._motion(Shift(max_shift=0))

    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        """Score every copy and shift; the scores of moved images are equal, but permuted."""
        copies = self._copies(as_float64(x) if exact else x)
        return self._gather(self.network.score(copies, exact=exact))

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        """Return the element with the largest score; ties are broken by content.

        Args:
            scores: What `exact_scores(x)` returned.
            x: The images scored.

        Returns:
            The fields of `motion`, int64, on the device of `x`; 0 for images with entries that are
            not finite.
        """
        index = best_index_by_content(scores, x, lambda some: self._copies(as_float64(some)))
        index = index.to(x.device)
        places = self.spatial_size[0] * self.spatial_size[1] if self.shifts else 1
        element = self._turn.from_index(index // places)
        if self.shifts:
            element["shift"] = index_to_shift(index % places, self.spatial_size)
        return element

    def loss(self, scores: Tensor, element: Element) -> Tensor:
        """Compute the cross-entropy over all copies and shifts."""
        return F.cross_entropy(scores.flatten(1), self.target(element))

    def target(self, element: Element) -> Tensor:
        """Return the index of the score of an element, int64 of shape `(batch,)`."""
        copy = self._turn.to_index(element)
        if not self.shifts:
            return copy
        places = self.spatial_size[0] * self.spatial_size[1]
        return copy * places + shift_to_index(element["shift"], self.spatial_size)

    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a positive factor, in place: margins change, estimates do not."""
        self.network.scale_scores(factor)

    @property
    def _turn(self) -> QuarterTurn:
        return QuarterTurn(self.mirrors)

    def _motion(self, shift: Motion) -> Motion:
        return Product(shift, self._turn) if self.shifts else self._turn

    def _copies(self, x: Tensor) -> Tensor:
        """Return every image with the motion of each copy undone: `(batch · copies, …)`."""
        turned = [torch.rot90(x, -quarters, (2, 3)) for quarters in range(4)]
        if self.mirrors:
            turned += [copy.flip(3) for copy in turned]
        return torch.stack(turned, 1).flatten(0, 1)

    def _gather(self, scores: Tensor) -> Tensor:
        scores = scores.reshape(-1, self._turn.num_copies, *self.spatial_size)
        return scores if self.shifts else scores[..., 0, 0]
