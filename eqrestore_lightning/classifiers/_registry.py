"""Architectures by name; a new one is a decorated function."""

import inspect
from collections.abc import Callable, Collection
from typing import TypeVar

from torch import nn

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])
_ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {}


def register_classifier(build: Builder) -> Builder:
    """Register a function under its own name, as an architecture of `build_classifier`.

    Args:
        build: Function of `in_channels` and `num_classes` that returns a network, and that may take
            `stem` and `width` as keywords (see `build_classifier`).

    Returns:
        The function itself, so that this can be used as a decorator.

    Raises:
        ValueError: If another function has this name.

    >>> @register_classifier
    ... def linear(in_channels, num_classes):
    ...     return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
    >>> "linear" in list_classifiers()
    True
    >>> del _ARCHITECTURES["linear"]
    """
    name = build.__name__
    found = _ARCHITECTURES.get(name, build)
    if (found.__module__, found.__qualname__) != (build.__module__, build.__qualname__):
        raise ValueError(
            f"Expected a new name for an architecture, but {name!r} is taken by "
            f"{found.__module__}.{found.__qualname__}."
        )
    _ARCHITECTURES[name] = build
    return build


def list_classifiers() -> list[str]:
    """Return the names of all architectures, sorted.

    >>> "resnet18" in list_classifiers()
    True
    """
    return sorted(_ARCHITECTURES)


def find_architecture(name: str) -> tuple[Callable[..., nn.Module], Collection[str]]:
    """Return the function that builds an architecture, and the names of its arguments.

    Raises:
        ValueError: If there is no architecture of this name.
    """
    if name not in _ARCHITECTURES:
        raise ValueError(
            f"Expected `architecture` to be one of {', '.join(list_classifiers())}, "
            f"but got {name!r}."
        )
    build = _ARCHITECTURES[name]
    return build, inspect.signature(build).parameters
