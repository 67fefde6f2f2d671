"""The interface that all motions share."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.functional._errors import circular_error

Element: TypeAlias = dict[str, Tensor]
"""How each image of a batch was moved: name of a field to its values, batch first."""


@dataclass(frozen=True)
class Field:
    """One part of an element, such as its shift.

    Attributes:
        name: Its key in an element, such as `"shift"`.
        unit: Unit of its values, such as `"pixels"`.
        columns: Names of its columns, such as `("down", "right")`, for values of shape
            `(batch, num_columns)`; empty for values of shape `(batch,)`.
        integer: Whether values are int64 rather than floating.
        tolerances: Errors up to which an estimate counts as correct, by the suffix under which that
            share is logged: `{"": 0, "_1px": 1}`.
    """

    name: str
    unit: str
    columns: tuple[str, ...] = ()
    integer: bool = True
    tolerances: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"": 0})


@dataclass(frozen=True)
class Motion(ABC):
    """A group of motions of images: draw some, apply them, undo them, compare two.

    An element describes how each image of a batch was moved: a dictionary from the names of
    `fields` to tensors, zero where an image was not moved. Kinds of motions are frozen dataclasses;
    defining one is enough for configurations to find it by name.

    Attributes:
        kinds: All kinds of motions, by class name.

    Raises:
        ValueError: If a class is defined whose name is already taken.

    Source: Section 3 of the paper, for any group.

    >>> @dataclass(frozen=True)
    ... class FlipRows(Motion):
    ...     @property
    ...     def fields(self):
    ...         return (Field("flipped", "flips"),)
    ...
    ...     def periods(self, spatial_size):
    ...         return {"flipped": (2,)}
    ...
    ...     def draw(self, batch_size, spatial_size, *, generator=None):
    ...         return {"flipped": torch.randint(2, (batch_size,), generator=generator)}
    ...
    ...     def apply(self, x, element):
    ...         return torch.where((element["flipped"] == 1).reshape(-1, 1, 1, 1), x.flip(2), x)
    ...
    ...     undo = apply
    >>> x = torch.arange(6).reshape(1, 1, 2, 3)
    >>> Motion.kinds["FlipRows"]().apply(x, {"flipped": torch.tensor([1])})[0, 0]
    tensor([[3, 4, 5],
            [0, 1, 2]])
    """

    kinds: ClassVar[Registry[type["Motion"]]] = Registry("a motion", "config['kind']")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Motion.kinds.register(cls)

    @property
    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """What elements consist of."""

    @abstractmethod
    def periods(self, spatial_size: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Return the period of every field: the value of each column that is equivalent to 0.

        Args:
            spatial_size: Size of each spatial axis of the images, pixels.

        Returns:
            Name of each field to one number for each column, in the unit of the field; one number
            for a field of shape `(batch,)`.
        """

    @abstractmethod
    def draw(
        self,
        batch_size: int,
        spatial_size: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> Element:
        """Draw elements at random; the first ones are the same however many follow.

        Args:
            batch_size: Number of images.
            spatial_size: Size of each spatial axis of the images, pixels.
            generator: Source of randomness; the element lies on its device.

        Returns:
            The element of `batch_size` images.
        """

    @abstractmethod
    def apply(self, x: Tensor, element: Element) -> Tensor:
        """Move images.

        Args:
            x: Shape `(batch, channels, *spatial)`, any real dtype.
            element: How to move each.

        Returns:
            A new tensor with the dtype of `x` and, unless `moved_size` says another, its shape.
        """

    @abstractmethod
    def undo(self, x: Tensor, element: Element) -> Tensor:
        """Move images back; arguments and result as for `apply`."""

    def moved_size(self, spatial_size: Sequence[int], element: Element) -> tuple[int, ...]:
        """Return the size that images have once they are moved, or moved back: the same.

        Args:
            spatial_size: Size of each spatial axis before, pixels.
            element: How each image of a batch is moved.

        Raises:
            ValueError: If images moved so would not fit into one batch.
        """
        del element
        return tuple(spatial_size)

    def apply_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Move points to where `apply` moves what lies at them; for boxes and key points.

        Args:
            points: Pixels along the spatial axes, such as (down, right), from the corner of the
                image: the middle of its first pixel lies at ½ along each axis. Floating of shape
                `(batch, things, points, axes)`; the points of one thing stay together.
            element: How to move each image.
            spatial_size: Size of each spatial axis of the images before they are moved, pixels.

        Returns:
            Shape and dtype of `points`.

        Raises:
            TypeError: If this kind of motion does not say where points go.
        """
        del points, element, spatial_size
        raise TypeError(
            f"Expected a motion that moves boxes and key points, but got a {type(self).__name__}, "
            f"which does not define `apply_points` and `undo_points`."
        )

    def undo_points(self, points: Tensor, element: Element, spatial_size: Sequence[int]) -> Tensor:
        """Move points to where `undo` moves what lies at them; see `apply_points`."""
        return Motion.apply_points(self, points, element, spatial_size)

    @property
    def config(self) -> dict[str, Any]:
        """The class name under `"kind"`, and the arguments, in plain JSON types."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "kind": type(self).__name__,
            **{name: list(v) if isinstance(v, tuple) else v for name, v in values.items()},
        }

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "Motion":
        """Build a motion from the entries of its `config`; lists become tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})

    @property
    def parts(self) -> tuple["Motion", ...]:
        """The motions that this one consists of: itself, or those of a product."""
        return (self,)

    def for_labels(self) -> "Motion":
        """Return the same motion for masks, in which labels must not be mixed."""
        return self

    def check(self, spatial_size: Sequence[int]) -> None:
        """Raise `ValueError` if this motion cannot move images of this size."""
        self.periods(spatial_size)

    def still(self, batch_size: int, *, device: torch.device | str | None = None) -> Element:
        """Return the element that moves nothing: zeros, int64 or of the default floating dtype."""
        return {
            field.name: torch.zeros(
                (batch_size, len(field.columns)) if field.columns else (batch_size,),
                dtype=torch.int64 if field.integer else torch.get_default_dtype(),
                device=device,
            )
            for field in self.fields
        }

    def error(self, estimated: Element, target: Element, spatial_size: Sequence[int]) -> Element:
        """Compute how far apart two elements are, field by field.

        Args:
            estimated: An element.
            target: Another one, of as many images.
            spatial_size: Size of each spatial axis of the images, pixels.

        Returns:
            Absolute errors by the shorter way around, in the units and shapes of the fields.
        """
        periods = self.periods(spatial_size)
        return {
            name: circular_error(estimated[name], target[name].to(estimated[name]), periods[name])
            for name in periods
        }


def build_motion(config: Mapping[str, Any]) -> Motion:
    """Build a motion from its `config`: its class name under `"kind"`, and its arguments."""
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    cls = Motion.kinds.find(kind)
    try:
        return cls.from_arguments(arguments)
    except (TypeError, KeyError) as error:
        raise ValueError(f"Expected `config` to describe a {kind}, but got: {error}") from error


def check_two_axes(spatial_size: Sequence[int]) -> None:
    """Raise `ValueError` unless images have two spatial axes."""
    if len(spatial_size) != 2:
        raise ValueError(f"Expected images with two spatial axes, but got {tuple(spatial_size)}.")


def fork(generator: torch.Generator | None) -> torch.Generator:
    """Return a new generator for one field, so that no draw depends on the number of images."""
    device = torch.device("cpu") if generator is None else generator.device
    seed = torch.randint(2**31, (1,), generator=generator, device=device)
    return torch.Generator(device).manual_seed(int(seed))
