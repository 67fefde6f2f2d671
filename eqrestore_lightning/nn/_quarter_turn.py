"""Groups that move pixels exactly: quarter turns and mirror images, with or without shifts."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eqrestore_lightning.functional import break_ties, circular_shift, quarter_turn, random_shift
from eqrestore_lightning.nn._base import ShiftFunction, TrainableEstimator, fork
from eqrestore_lightning.nn._estimator import TranslationEstimator, as_float64, content_keys


class QuarterTurnEstimator(TrainableEstimator):
    """Score every quarter turn of an image, and every mirror image, by looking at all of them.

    One `TranslationEstimator` scores the four turned copies of an image, or all eight with their
    mirror images; the largest score over copies and shifts says how the image was moved. Moving an
    image permutes its copies, so that all its turned, mirrored and shifted versions are restored to
    the same image, **bit for bit**, whatever the weights.

    Convention:
        An element is (mirrored, quarters, down, right): the image was shifted, then mirrored left
        to right if `mirrored` is 1, then turned by `quarters` · 90°, counter-clockwise as
        displayed. Without `shifts` the last two are 0.

    Args:
        in_channels: Channels of the images.
        spatial_size: Height and width of the images, pixels; the same.
        mirrors: Whether images may have been mirrored.
        shifts: Whether images may have been shifted, circularly. If not, the network only says how
            much each copy looks as if in its place.
        options: Further arguments of the `TranslationEstimator`.

    Shapes:
        Input `(batch, in_channels, size, size)`, floating; output `(batch, copies, size, size)`,
        without `shifts` `(batch, copies)`. Copy `4 · mirrored + quarters` is the image as it was
        if that was done to it.

    Attributes:
        network: The `TranslationEstimator`.

    Raises:
        ValueError: If images are not square, or a number is out of range.

    Source: own; frame averaging over a finite group, with the largest score instead of a mean.

    >>> estimator = QuarterTurnEstimator(1, (9, 9), mirrors=True, kernel_size=3)
    >>> x = torch.rand(1, 1, 9, 9)
    >>> turned = torch.rot90(x, 1, (2, 3)).flip(3).roll(5, 2)
    >>> first, second = (estimator.undo(y, estimator.locate(estimator.exact_scores(y), y))
    ...                  for y in (x, turned))
    >>> torch.equal(first, second)
    True
    """

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
        self.network = TranslationEstimator(in_channels, spatial_size, **options)
        self.spatial_size = self.network.spatial_size

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        return {**self.network.config, "mirrors": self.mirrors, "shifts": self.shifts}

    @property
    def element_names(self) -> tuple[str, ...]:
        """What the entries of an element are called."""
        return ("mirrored", "quarters", "down", "right")

    @property
    def periods(self) -> tuple[int, ...]:
        """After how much each entry of an element is as good as 0."""
        return (2, 4, *self.spatial_size)

    def forward(self, x: Tensor) -> Tensor:
        """Score every copy and shift, differentiably, in the dtype of `x`.

        Args:
            x: Shape `(batch, in_channels, size, size)`, floating.

        Returns:
            Shape `(batch, copies, size, size)`, without `shifts` `(batch, copies)`.

        Raises:
            TypeError: If `x` is not floating.
            ValueError: If `x` has another shape.
        """
        return self._gather(self.network(self._copies(x)), x.shape[0])

    @torch.no_grad()
    def exact_scores(self, x: Tensor) -> Tensor:
        """Score every copy and shift; moved images give equal scores, moved.

        Args:
            x: Shape `(batch, in_channels, size, size)`, any real dtype; uint8 as it is.

        Returns:
            float64 of shape `(batch, copies, size, size)`, without `shifts` `(batch, copies)`.

        Raises:
            ValueError: If `x` has another shape.
        """
        return self._gather(self.network.exact_scores(self._copies(x)), x.shape[0])

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Tensor:
        """Read off the element from exact scores; equal ones are decided by content.

        Args:
            scores: What `exact_scores(x)` gave.
            x: The images scored.

        Returns:
            int64 of shape `(batch, 4)`, on the device of `x`. 0 for images with entries that are
            not finite.

        Raises:
            ValueError: If `scores` and `x` do not belong together.
        """
        best = scores.flatten(1).amax(1).reshape(-1, *[1] * (scores.ndim - 1))
        if torch.compiler.is_compiling() or (scores == best).flatten(1).sum(1).gt(1).any():
            for key in content_keys(as_float64(self._copies(x))):
                scores = break_ties(scores, self._gather(key, x.shape[0]))
        index = scores.flatten(1).argmax(1).to(x.device)
        height, width = self.spatial_size if self.shifts else (1, 1)
        copy = index // (height * width)
        shift = torch.stack([index // width % height, index % width], 1)
        size = shift.new_tensor([height, width])
        shift = (shift + size // 2) % size - size // 2
        return torch.cat([torch.stack([copy // 4, copy % 4], 1), shift], 1)

    def undo(self, x: Tensor, element: Tensor) -> Tensor:
        """Move images back: exact, for any dtype.

        Args:
            x: Images of shape `(batch, channels, size, size)`.
            element: int64 of shape `(batch, 4)`.

        Returns:
            A new tensor with the shape and dtype of `x`.
        """
        turned = quarter_turn(x, -element[:, 1])
        return circular_shift(_mirror(turned, element[:, 0]), -element[:, 2:])

    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do."""
        self.network.scale_scores(factor)

    def random_element(
        self,
        batch_size: int,
        *,
        max_shift: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw copies uniformly, and shifts as a `TranslationEstimator` does; int64.

        Raises:
            ValueError: If `max_shift` is above 0 for an estimator without `shifts`.
        """
        if not self.shifts:
            if max_shift:
                raise ValueError(
                    f"Expected `max_shift` to be 0 for an estimator without `shifts`, "
                    f"but got {max_shift}."
                )
            max_shift = 0
        device = None if generator is None else generator.device
        copy = torch.randint(
            8 if self.mirrors else 4, (batch_size,), generator=fork(generator), device=device
        )
        if max_shift is None:
            max_shift = self.spatial_size[0] // 2
        shift = random_shift(batch_size, max_shift, generator=generator)
        return torch.cat([torch.stack([copy // 4, copy % 4], 1), shift], 1)

    def apply_element(
        self, x: Tensor, element: Tensor, *, shift: ShiftFunction = circular_shift
    ) -> Tensor:
        """Shift, mirror and turn images: exact."""
        shifted = shift(x, element[:, 2:])
        return quarter_turn(_mirror(shifted, element[:, 0]), element[:, 1])

    def loss(self, scores: Tensor, element: Tensor) -> Tensor:
        """Give the cross-entropy over all copies and shifts."""
        return F.cross_entropy(scores.flatten(1), self.target(element))

    def target(self, element: Tensor) -> Tensor:
        """Give the index at which the score for an element stands, int64 of shape `(batch,)`."""
        index = 4 * element[:, 0] + element[:, 1]
        if self.shifts:
            for axis, size in enumerate(self.spatial_size):
                index = index * size + element[:, 2 + axis] % size
        return index

    def _copies(self, x: Tensor) -> Tensor:
        """Give every image as it was if it was moved by each copy: `(batch · copies, …)`."""
        turned = [torch.rot90(x, -quarters, (2, 3)) for quarters in range(4)]
        if self.mirrors:
            turned += [copy.flip(3) for copy in turned]
        return torch.stack(turned, 1).flatten(0, 1)

    def _gather(self, scores: Tensor, batch: int) -> Tensor:
        scores = scores.reshape(batch, 8 if self.mirrors else 4, *self.spatial_size)
        return scores if self.shifts else scores[..., 0, 0]


def _mirror(x: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where((mirrored == 1).reshape(-1, 1, 1, 1), x.flip(3), x)
