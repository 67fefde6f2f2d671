"""What is placed in front of a classifier: restorers that find motions, and plain functions."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from eqrestore_lightning.evaluation._results import NO_RESTORER
from eqrestore_lightning.motions import Element, Motion, Shift


@runtime_checkable
class Finder(Protocol):
    """A restorer that reports what it found, such as `RestoreTransform`."""

    def find(self, x: Tensor) -> Any:
        """Estimate how images were moved; the attribute `motion` of the result is the element."""

    def undo(self, y: Tensor, found: Any) -> Tensor:
        """Move images back by what `find` returned."""

    def __call__(self, x: Tensor) -> Tensor:
        """Restore images."""


Restorer: TypeAlias = Finder | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RuleFound:
    """What a rule found: `motion`, the element."""

    motion: Element


class Rule:
    """Restore images by a function that estimates the one field of a motion, by default a shift.

    >>> brightest = Rule(lambda x: x.flatten(1).argmax(1, keepdim=True))
    >>> brightest(torch.tensor([[[3, 9, 4, 1]]]))
    tensor([[[9, 4, 1, 3]]])
    """

    def __init__(
        self, estimate: Callable[[Tensor], Tensor], *, motion: Motion | None = None
    ) -> None:
        self.estimate = estimate
        self.motion = motion

    def find(self, x: Tensor) -> RuleFound:
        """Estimate how images were moved."""
        (field,) = self._motion(x).fields
        return RuleFound({field.name: self.estimate(x)})

    def undo(self, y: Tensor, found: RuleFound) -> Tensor:
        """Move images back."""
        return self._motion(y).undo(y, found.motion)

    def __call__(self, x: Tensor) -> Tensor:
        """Restore images."""
        return self.undo(x, self.find(x))

    def _motion(self, x: Tensor) -> Motion:
        return self.motion or Shift(tuple(range(2 - x.ndim, 0)))


def restore_with(restorer: Restorer, x: Tensor) -> tuple[Tensor, Element]:
    """Restore images, and return what was found; an empty element for plain functions."""
    if isinstance(restorer, Finder):
        found = restorer.find(x)
        return restorer.undo(x, found), found.motion
    return restorer(x), {}


def named_restorers(restorers: Mapping[str, Restorer], device: torch.device) -> dict[str, Restorer]:
    """Return copies of restorers on a device, by name, after one that does nothing."""
    if NO_RESTORER in restorers:
        raise ValueError(f"Expected another name for a restorer than {NO_RESTORER!r}.")
    named: dict[str, Restorer] = {NO_RESTORER: nn.Identity()}
    for name, restorer in restorers.items():
        if not isinstance(restorer, Finder) and not callable(restorer):
            raise TypeError(
                f"Expected the restorer {name!r} to have `find` and `undo` or to be callable, "
                f"but got {type(restorer).__name__}."
            )
        moved: Any = restorer
        if isinstance(restorer, nn.Module):
            moved = copy.deepcopy(restorer).to(device)
        named[name] = moved
    return named


def is_comparable(found: Element, target: Element) -> bool:
    """Check whether a restorer found exactly the fields that a motion moves."""
    return {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in target.items()}


def draw_on(motion: Motion, x: Tensor, generator: torch.Generator) -> Element:
    """Draw a motion for each image, on the device of the images."""
    element = motion.draw(len(x), tuple(x.shape[2:]), generator=generator)
    return {name: value.to(x.device) for name, value in element.items()}
