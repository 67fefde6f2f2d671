"""Several motions, one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.motions._base import Element, Field, Motion, build_motion, fork
from eqrestore_lightning.motions._shift import Shift


@dataclass(frozen=True, init=False)
class Product(Motion):
    """Apply motions from first to last, and undo them from last to first.

    Its fields are those of all its motions.

    Args:
        motions: At least one; no two with a field of the same name.

    Raises:
        ValueError: If there are none, or two have a field of the same name.

    >>> from eqrestore_lightning.motions import QuarterTurn, Shift
    >>> motion = Product(QuarterTurn(), Shift())
    >>> element = {"quarters": torch.tensor([1]), "shift": torch.tensor([[0, 1]])}
    >>> x = torch.arange(4).reshape(1, 1, 2, 2)
    >>> motion.apply(x, element)[0, 0]
    tensor([[3, 1],
            [2, 0]])
    """

    motions: tuple[Motion, ...]

    def __init__(self, *motions: Motion) -> None:
        if not motions:
            raise ValueError("Expected at least one motion, but got none.")
        object.__setattr__(self, "motions", motions)
        names = [field.name for field in self.fields]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected motions with different fields, but got {names}.")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of all motions."""
        return tuple(field for motion in self.motions for field in motion.fields)

    @property
    def config(self) -> dict[str, Any]:
        """The name under `"kind"`, and the `config` of each motion, in plain JSON types."""
        return {"kind": "Product", "motions": [motion.config for motion in self.motions]}

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Motion:
        """Build a product from the entries of its `config`."""
        return cls(*(build_motion(config) for config in arguments["motions"]))

    @property
    def parts(self) -> tuple[Motion, ...]:
        """The motions that this one consists of, first to last."""
        return tuple(part for motion in self.motions for part in motion.parts)

    def for_labels(self) -> Motion:
        """Return the product for masks, in which labels must not be mixed."""
        return Product(*(motion.for_labels() for motion in self.motions))

    def periods(self, spatial_size: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Return the periods of all fields."""
        return {k: v for motion in self.motions for k, v in motion.periods(spatial_size).items()}

    def check(self, spatial_size: Sequence[int]) -> None:
        """Raise `ValueError` if one of the motions cannot move images of this size."""
        for motion in self.motions:
            motion.check(spatial_size)

    def draw(
        self,
        batch_size: int,
        spatial_size: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> Element:
        """Draw an element of each motion."""
        element: Element = {}
        for motion in self.motions:
            element.update(motion.draw(batch_size, spatial_size, generator=fork(generator)))
        return element

    def apply(self, x: Tensor, element: Element) -> Tensor:
        """Apply the first motion, then the next ones."""
        for motion in self.motions:
            x = motion.apply(x, element)
        return x

    def undo(self, x: Tensor, element: Element) -> Tensor:
        """Undo the last motion, then those before it."""
        for motion in reversed(self.motions):
            x = motion.undo(x, element)
        return x

    def moved_size(self, spatial_size: Sequence[int], element: Element) -> tuple[int, ...]:
        """Return the size that images have after all motions."""
        size = tuple(spatial_size)
        for motion in self.motions:
            size = motion.moved_size(size, element)
        return size

    def apply_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Move points by the first motion, then by the next ones."""
        for motion in self.motions:
            points = motion.apply_points(points, element, spatial_size)
            spatial_size = motion.moved_size(spatial_size, element)
        return points

    def undo_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Move points back by the last motion, then by those before it."""
        for motion in reversed(self.motions):
            points = motion.undo_points(points, element, spatial_size)
            spatial_size = motion.moved_size(spatial_size, element)
        return points


def replace_shift(motion: Motion, **changes: Any) -> Motion:
    """Return a shift, or a product with one, with another `max_shift` and `fill`."""
    parts = [replace(p, **changes) if isinstance(p, Shift) else p for p in motion.parts]
    if not any(isinstance(part, Shift) for part in parts):
        if changes.get("max_shift") or changes.get("fill", "circular") != "circular":
            names = [field.name for field in motion.fields]
            raise ValueError(
                f"Expected a motion that shifts images, to apply {changes} to, but got one with "
                f"the fields {names}."
            )
        return motion
    return parts[0] if len(parts) == 1 else Product(*parts)
