"""Motions that permute pixels about the center: quarter turns and mirror images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqrestore_lightning.functional._points import mirror_points, quarter_turn_points
from eqrestore_lightning.functional._rotation import mirror, quarter_turn, turned_size
from eqrestore_lightning.motions._base import Element, Field, Motion, check_two_axes


@dataclass(frozen=True)
class QuarterTurn(Motion):
    """Turn images by multiples of 90°, and optionally mirror them; no interpolation.

    Images that are not square change their shape, so a batch of them must be turned by even
    quarters all, or by odd ones all; one image by any.

    Field `quarters`: quarter turns, int64 of shape `(batch,)`, 0 to 3; with `mirrors` also
    `mirrored`: 1 for images that were mirrored, int64 of shape `(batch,)`.

    Convention:
        Images are mirrored left to right first, then turned, counter-clockwise as displayed.

    Args:
        mirrors: Whether images are mirrored as well.

    >>> x = torch.arange(4).reshape(1, 1, 2, 2)
    >>> QuarterTurn().apply(x, {"quarters": torch.tensor([1])})[0, 0]
    tensor([[1, 3],
            [0, 2]])
    """

    mirrors: bool = False

    @property
    def fields(self) -> tuple[Field, ...]:
        """The number of quarter turns, and whether the image was mirrored."""
        quarters = Field("quarters", "quarter turns")
        return (Field("mirrored", "mirror images"), quarters) if self.mirrors else (quarters,)

    @property
    def num_copies(self) -> int:
        """Number of elements: 4, with mirror images 8."""
        return 8 if self.mirrors else 4

    def periods(self, spatial_size: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Return 4 quarters, and 2 for mirror images.

        Raises:
            ValueError: If the images do not have two spatial axes.
        """
        check_two_axes(spatial_size)
        return {"mirrored": (2,), "quarters": (4,)} if self.mirrors else {"quarters": (4,)}

    def from_index(self, index: Tensor) -> Element:
        """Return the element number `4 · mirrored + quarters`; int64 of shape `(batch,)`."""
        quarters = {"quarters": index % 4}
        return {"mirrored": index // 4, **quarters} if self.mirrors else quarters

    def to_index(self, element: Element) -> Tensor:
        """Return the number of an element, as `from_index` counts."""
        quarters = element["quarters"] % 4
        return 4 * (element["mirrored"] % 2) + quarters if self.mirrors else quarters

    def draw(
        self,
        batch_size: int,
        spatial_size: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> Element:
        """Draw elements uniformly."""
        del spatial_size
        device = None if generator is None else generator.device
        return self.from_index(
            torch.randint(self.num_copies, (batch_size,), generator=generator, device=device)
        )

    def moved_size(self, spatial_size: Sequence[int], element: Element) -> tuple[int, ...]:
        """Return height and width, exchanged if images that are not square lie on their side."""
        return turned_size(spatial_size, element["quarters"])

    def apply(self, x: Tensor, element: Element) -> Tensor:
        """Mirror and turn images: exact, for any dtype."""
        mirrored = mirror(x, element["mirrored"]) if self.mirrors else x
        return quarter_turn(mirrored, element["quarters"])

    def undo(self, x: Tensor, element: Element) -> Tensor:
        """Turn and mirror images back: exact, for any dtype."""
        turned = quarter_turn(x, -element["quarters"])
        return mirror(turned, element["mirrored"]) if self.mirrors else turned

    def apply_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Mirror and turn points along: exact."""
        if self.mirrors:
            points = mirror_points(points, element["mirrored"], spatial_size)
        return quarter_turn_points(points, element["quarters"], spatial_size)

    def undo_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Turn and mirror points back: exact."""
        points = quarter_turn_points(points, -element["quarters"], spatial_size)
        if self.mirrors:
            size = self.moved_size(spatial_size, element)
            points = mirror_points(points, element["mirrored"], size)
        return points
