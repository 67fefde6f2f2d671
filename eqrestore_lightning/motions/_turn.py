"""Rotations by any angle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqrestore_lightning.functional import rotate
from eqrestore_lightning.functional._points import rotate_points
from eqrestore_lightning.functional._rotation import Fill, Interpolation, check_sampling
from eqrestore_lightning.motions._base import Element, Field, Motion, check_two_axes


@dataclass(frozen=True)
class Turn(Motion):
    """Turn images about their center, each by its own angle, keeping their size.

    Field `angle`: degrees, floating of shape `(batch,)`.

    Convention:
        Positive is counter-clockwise as displayed.

    Args:
        degrees: Range from which angles are drawn, uniformly; `(15, 15)` always turns by 15°.
        fill: What enters at the corners, see `rotate`.
        interpolation: How pixels are read, see `rotate`.

    Raises:
        ValueError: If `degrees` is not two finite, ascending numbers, or `fill` or `interpolation`
            is unknown.

    >>> x = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> Turn().apply(x, {"angle": torch.tensor([90.0])})[0, 0]
    tensor([[2., 5., 8.],
            [1., 4., 7.],
            [0., 3., 6.]])
    """

    degrees: tuple[float, float] = (0.0, 360.0)
    fill: Fill = "zeros"
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        degrees = tuple(self.degrees)
        if len(degrees) != 2 or not -math.inf < degrees[0] <= degrees[1] < math.inf:
            raise ValueError(
                f"Expected `degrees` to be two finite, ascending numbers, but got {degrees}."
            )
        object.__setattr__(self, "degrees", degrees)
        check_sampling(self.fill, self.interpolation)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The angle."""
        return (Field("angle", "degrees", integer=False, tolerances={"_10deg": 10}),)

    def periods(self, spatial_size: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Return 360 degrees.

        Raises:
            ValueError: If the images do not have two spatial axes.
        """
        check_two_axes(spatial_size)
        return {"angle": (360,)}

    def for_labels(self) -> Motion:
        """Return a turn that takes the nearest label, and 0 at the corners."""
        return replace(self, fill="zeros", interpolation="nearest")

    def draw(
        self,
        batch_size: int,
        spatial_size: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> Element:
        """Draw angles uniformly from `degrees`; float32."""
        del spatial_size
        device = None if generator is None else generator.device
        low, high = self.degrees
        return {
            "angle": low + (high - low) * torch.rand(batch_size, generator=generator, device=device)
        }

    def apply(self, x: Tensor, element: Element) -> Tensor:
        """Turn images: one interpolation, exact for quarter turns of square ones; see `rotate`."""
        return rotate(x, element["angle"], fill=self.fill, interpolation=self.interpolation)

    def undo(self, x: Tensor, element: Element) -> Tensor:
        """Turn images back."""
        return rotate(x, -element["angle"], fill=self.fill, interpolation=self.interpolation)

    def apply_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Turn points along, also out of the image."""
        return rotate_points(points, element["angle"], spatial_size)

    def undo_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Turn points back."""
        return rotate_points(points, -element["angle"], spatial_size)
