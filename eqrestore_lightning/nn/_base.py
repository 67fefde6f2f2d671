"""What every kind of estimator answers, so that who uses one need not know its kind."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Estimator(nn.Module, ABC):
    """Score the elements of a group for every image: how it was moved, and how to move it back.

    `RestoreTransform` asks `exact_scores`, then `locate`, then `undo`; saving and loading ask
    `config`. The element of no motion is zero on every entry.

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

    @abstractmethod
    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do."""
