"""Shifts along some axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._points import shift_points
from eqrestore_lightning.functional._shift import check_axes, random_shift, zero_fill_shift
from eqrestore_lightning.motions._base import Element, Field, Motion

ShiftFill: TypeAlias = Literal["circular", "zeros"]

_COLUMNS = {-1: "right", -2: "down", -3: "deep"}
_APPLY = {"circular": circular_shift, "zeros": zero_fill_shift}


@dataclass(frozen=True)
class Shift(Motion):
    """Shift images along some of their axes, each image by its own amount.

    Field `shift`: pixels, int64 of shape `(batch, num_axes)`.

    Convention:
        Positive moves content toward higher indices, as `torch.roll` does: down and right.

    Args:
        axes: The axes to shift along, negative as in torch, ascending: `(-2, -1)` for images,
            `(-1,)` for signals and for panoramas, `(-3, -2, -1)` for volumes.
        max_shift: Largest shift drawn along each axis, pixels; half of the axis by default.
        fill: What enters where content leaves: its other side (`"circular"`), or `"zeros"`. Undoing
            is always circular, as what has left an image is lost.

    Raises:
        ValueError: If `axes` are not negative, ascending and at least −3, `max_shift` is negative,
            or `fill` is unknown.

    Source: Definition 3.1.

    >>> shift = Shift(max_shift=3)
    >>> x = torch.arange(12).reshape(1, 1, 3, 4)
    >>> shift.apply(x, {"shift": torch.tensor([[1, -1]])})[0, 0]
    tensor([[ 9, 10, 11,  8],
            [ 1,  2,  3,  0],
            [ 5,  6,  7,  4]])
    """

    axes: tuple[int, ...] = (-2, -1)
    max_shift: int | None = None
    fill: ShiftFill = "circular"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", check_axes(self.axes, len(_COLUMNS)))
        if self.max_shift is not None and self.max_shift < 0:
            raise ValueError(f"Expected `max_shift` to be at least 0, but got {self.max_shift}.")
        if self.fill not in get_args(ShiftFill):
            raise ValueError(
                f"Expected `fill` to be one of {get_args(ShiftFill)}, but got {self.fill!r}."
            )

    @property
    def fields(self) -> tuple[Field, ...]:
        """The shift."""
        columns = tuple(_COLUMNS[axis] for axis in self.axes)
        return (Field("shift", "pixels", columns, tolerances={"": 0, "_1px": 1}),)

    def periods(self, spatial_size: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Return the size of each shifted axis, pixels.

        Raises:
            ValueError: If the images lack one of the axes.
        """
        if len(spatial_size) < -self.axes[0]:
            raise ValueError(
                f"Expected images with at least {-self.axes[0]} spatial axes, "
                f"but got {tuple(spatial_size)}."
            )
        return {"shift": tuple(spatial_size[axis] for axis in self.axes)}

    def check(self, spatial_size: Sequence[int]) -> None:
        """Raise `ValueError` if an axis is missing, or shorter than `max_shift`."""
        (sizes,) = self.periods(spatial_size).values()
        if self.max_shift is not None and self.max_shift > min(sizes):
            raise ValueError(
                f"Expected `max_shift` to be from 0 to the size of the image, {min(sizes)}, "
                f"but got {self.max_shift}."
            )

    def draw(
        self,
        batch_size: int,
        spatial_size: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> Element:
        """Draw shifts uniformly, each axis from `-max_shift … max_shift`."""
        (sizes,) = self.periods(spatial_size).values()
        largest = [size // 2 if self.max_shift is None else self.max_shift for size in sizes]
        shift = random_shift(
            batch_size, largest, num_spatial_dims=len(self.axes), generator=generator
        )
        return {"shift": shift}

    def apply(self, x: Tensor, element: Element) -> Tensor:
        """Shift images: exact, for any dtype."""
        return _APPLY[self.fill](x, element["shift"], axes=self.axes)

    def undo(self, x: Tensor, element: Element) -> Tensor:
        """Shift images back, circularly: exact, for any dtype."""
        return circular_shift(x, -element["shift"], axes=self.axes)

    def apply_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Shift points along; what wraps around stays whole, see `shift_points`."""
        circular = self.fill == "circular"
        return shift_points(
            points, element["shift"], spatial_size, axes=self.axes, circular=circular
        )

    def undo_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Shift points back, circularly."""
        return shift_points(points, -element["shift"], spatial_size, axes=self.axes)
