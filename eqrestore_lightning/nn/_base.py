"""What every kind of estimator answers, so that who uses one need not know its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from eqrestore_lightning.functional import circular_shift, scores_to_margin

ShiftFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Estimator(nn.Module, ABC):
    """Score the elements of a group for every image: how it was moved, and how to move it back.

    `RestoreTransform` asks `exact_scores`, then `locate`, then `undo`; its gate asks `margin`;
    saving and loading ask `config`. The element of no motion is zero on every entry.

    Attributes:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis of the images, pixels.

    Source: Definition 4.1, for any group.
    """

    in_channels: int
    spatial_size: tuple[int, ...]

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""

    @property
    def element_names(self) -> tuple[str, ...]:
        """What the entries of an element are called: by default those of a shift, pixels."""
        return ("deep", "down", "right")[-len(self.spatial_size) :]

    @abstractmethod
    def exact_scores(self, x: Tensor) -> Tensor:
        """Score every element, bitwise equivariantly.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, any real dtype; uint8 as it is.

        Returns:
            float64 of shape `(batch, *elements)`.
        """

    @abstractmethod
    def locate(self, scores: Tensor, x: Tensor) -> Tensor:
        """Read off the element with the largest score; equal ones are decided by content.

        Args:
            scores: What `exact_scores(x)` gave.
            x: The images scored.

        Returns:
            Shape `(batch, num_parameters)`, on the device of `x`.
        """

    @abstractmethod
    def undo(self, x: Tensor, element: Tensor) -> Tensor:
        """Move images back.

        Args:
            x: Images of shape `(batch, channels, *spatial)`, any dtype.
            element: What `locate` found.

        Returns:
            A new tensor with the shape and dtype of `x`.
        """

    def undo_mask(self, mask: Tensor, element: Tensor) -> Tensor:
        """Move masks of labels back, as `undo` moves images, without mixing labels."""
        return self.undo(mask, element)

    def margin(self, scores: Tensor) -> Tensor:
        """Say how far the best element is ahead of its best rival: log-odds.

        Args:
            scores: What `exact_scores` gave.

        Returns:
            Not negative, shape `(batch,)`; the same however an image was moved.
        """
        return scores_to_margin(scores)

    @abstractmethod
    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do."""


def fork(generator: torch.Generator | None) -> torch.Generator:
    """Give a generator of its own for a further entry of an element, drawn from another one.

    Entries drawn one after the other from one generator would depend on how many images there are.
    """
    device = torch.device("cpu") if generator is None else generator.device
    seed = torch.randint(2**31, (1,), generator=generator, device=device)
    return torch.Generator(device).manual_seed(int(seed))


class TrainableEstimator(Estimator):
    """What `RestorerModule` asks besides: how to move images, and how wrong an answer is."""

    @property
    @abstractmethod
    def periods(self) -> tuple[int, ...]:
        """After how much each entry of an element is as good as 0."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Score every element, differentiably.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, floating.

        Returns:
            Shape `(batch, *elements)`, dtype of `x`.
        """

    @abstractmethod
    def random_element(
        self,
        batch_size: int,
        *,
        max_shift: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw elements, uniformly; the first ones are the same however many follow.

        Args:
            batch_size: How many.
            max_shift: Largest shift along each axis, pixels; half the image by default. 0 for those
                that do not shift.
            generator: Source of randomness.

        Returns:
            Shape `(batch_size, num_parameters)`.

        Raises:
            ValueError: If `max_shift` is negative, or not 0 where nothing is shifted.
        """

    @abstractmethod
    def apply_element(
        self, x: Tensor, element: Tensor, *, shift: ShiftFunction = circular_shift
    ) -> Tensor:
        """Move images: what `undo` undoes.

        Args:
            x: Images of shape `(batch, channels, *spatial)`, any dtype.
            element: Shape `(batch, num_parameters)`.
            shift: How to shift, for those that do: `circular_shift` or `zero_fill_shift`.

        Returns:
            A new tensor with the shape and dtype of `x`.
        """

    @abstractmethod
    def loss(self, scores: Tensor, element: Tensor) -> Tensor:
        """Give the cross-entropy of scores, taken as log-probabilities up to a constant.

        Args:
            scores: What `forward` gave for images moved by `element`.
            element: Shape `(batch, num_parameters)`.

        Returns:
            Mean over the batch, floating, no axes.
        """

    def constant(self, scores: Tensor) -> Tensor:
        """Tell which images have equal scores everywhere, up to rounding: nothing was found.

        Args:
            scores: What `forward` gave.

        Returns:
            bool of shape `(batch,)`.
        """
        flat = scores.flatten(1)
        return flat.amax(1) - flat.amin(1) <= 1e-5 * flat.abs().amax(1)
