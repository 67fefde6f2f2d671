"""Whether the arguments in a file have the types that a constructor is annotated with."""

import math
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from eqrestore_lightning.nn import Estimator

_LARGEST = 2**31  # of whole numbers


def check_arguments(estimator: Estimator) -> None:
    """Refuse an estimator, or one inside it, that was built from values of other types.

    Python does not look at annotations: `skip="no"` would be true, and `dilation=1.5` would fail
    when the first image comes.
    """
    for part in estimator.modules():
        if not isinstance(part, Estimator):
            continue
        hints = _hints(type(part))
        for name, value in part.config.items():
            if not _fits(value, hints.get(name, Any)):
                raise ValueError(
                    f"Expected `{name}` to be {_told(hints[name])}, but got {str(value)[:100]!r}."
                )


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind.__init__)  # type: ignore[misc]
    except NameError:  # a name of an own estimator that is imported for type checkers only
        return {}


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in arguments)
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(x, arguments[0]) for x in value)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if hint is int:
        return type(value) is int and abs(value) < _LARGEST
    if hint is float:
        return type(value) in (int, float) and abs(cast(float, value)) < math.inf
    return isinstance(value, hint) if hint in (bool, str, NoneType) else True


def _told(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) else str(hint)
    return text.replace("collections.abc.", "").replace("typing.", "")
