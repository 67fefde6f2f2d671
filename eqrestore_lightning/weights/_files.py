"""Save and load estimators; safe for untrusted files."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from eqrestore_lightning import theory  # noqa: F401  # registers its estimators
from eqrestore_lightning.files import whole_file
from eqrestore_lightning.nn import ESTIMATORS, Estimator
from eqrestore_lightning.weights._arguments import check_arguments
from eqrestore_lightning.weights._checkpoints import checkpoint_digest, read_checkpoint
from eqrestore_lightning.weights._digest import (
    DIGEST,
    check_digest,
    content_digest,
    warn_without_digest,
)
from eqrestore_lightning.weights._reading import reading

_FORMAT = "eqrestore-estimator"
LOWEST_LEVEL = "lowest_level"
"""The key under which files hold the `lowest_level` of an estimator."""
OWN_KEYS = ("format", "config", LOWEST_LEVEL, DIGEST)
"""What `save_estimator` itself writes into a file's metadata; all else is notes."""
_LONGEST_CONFIG = 20_000  # characters of JSON
_LONGEST_HEADER = 10_000_000  # bytes; a tensor that is described in it takes ten times as much


def estimator_config(estimator: Estimator) -> dict[str, Any]:
    """Return what `build_estimator` needs, in plain JSON types.

    Args:
        estimator: Of a registered kind.

    Returns:
        The name of the class under `"kind"`, and its arguments.

    Raises:
        TypeError: If the kind of `estimator` is not registered.

    >>> from eqrestore_lightning import TranslationEstimator
    >>> estimator_config(TranslationEstimator(1, (8, 9), kernel_size=3))["kind"]
    'TranslationEstimator'
    """
    kind = type(estimator).__name__
    if ESTIMATORS.get(kind) is not type(estimator):
        raise TypeError(
            f"Expected `estimator` to be one of {sorted(ESTIMATORS)}, or of a class with "
            f"`@register_estimator`, but got {kind}."
        )
    return {"kind": kind, **estimator.config}


def build_estimator(config: Mapping[str, Any]) -> Estimator:
    """Build an estimator with fresh weights from what `estimator_config` returned.

    Args:
        config: The name of the class under `"kind"`, and its arguments.

    Returns:
        The estimator.

    Raises:
        ValueError: If `config` names no known kind or its arguments do not build one.

    >>> build_estimator({"kind": "TranslationEstimator", "in_channels": 1,
    ...                  "spatial_size": [8, 9], "kernel_size": 3}).spatial_size
    (8, 9)
    """
    length = len(json.dumps(dict(config), default=str))
    if length > _LONGEST_CONFIG:  # a list of millions of layers, for instance
        raise ValueError(
            f"Expected `config` to have at most {_LONGEST_CONFIG:,} characters of JSON, "
            f"but got {length:,}."
        )
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    cls = ESTIMATORS.find(kind)
    try:
        estimator = cls(**arguments)
        check_arguments(estimator)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"Expected `config` to describe a {kind}, but got: {error}") from error
    return estimator


def save_estimator(
    estimator: Estimator,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write weights and configuration to one `.safetensors` file, atomically, with a digest.

    Args:
        estimator: What to save.
        path: Where to, ending in `.safetensors`; an older file there is replaced.
        metadata: Further entries of the file's metadata, such as the command that made it.
        dtype: Floating dtype to round weights to, such as `torch.float16` for half the size; by
            default they are written as they are.

    Raises:
        FileNotFoundError: If the folder does not exist.
        TypeError: If the kind of `estimator` is not registered.
        ValueError: If `path` does not end in `.safetensors`.

    >>> import tempfile
    >>> from eqrestore_lightning import TranslationEstimator
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_estimator(TranslationEstimator(1, (9, 12), axes=(-1,)), f"{folder}/e.safetensors")
    ...     read_estimator(f"{folder}/e.safetensors").axes
    (-1,)
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"Expected `path` to end in .safetensors, but got {path}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Expected the folder of `path` to exist, but got {path.parent}.")
    tensors = {name: value.detach().cpu() for name, value in estimator.state_dict().items()}
    if dtype is not None:
        tensors = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in tensors.items()
        }
    notes = {
        **(metadata or {}),
        "format": _FORMAT,
        "config": json.dumps(estimator_config(estimator)),
    }
    if estimator.lowest_level is not None:
        notes[LOWEST_LEVEL] = str(estimator.lowest_level)
    notes[DIGEST] = content_digest(notes, tensors)
    content = to_safetensors({name: value.contiguous() for name, value in tensors.items()}, notes)
    with whole_file(path) as part:
        part.write_bytes(content)


def read_estimator(path: str | os.PathLike[str], *, require_digest: bool = False) -> Estimator:
    """Load an estimator from a `.safetensors` file or a Lightning `.ckpt`.

    The digest that the file holds is compared with its content; a warning tells if there is none.
    Only tensors and plain values are read, nothing in the file is executed, and every tensor must
    be present with its shape; memory is allocated for what the file holds, not for what it claims.

    Args:
        path: File written by `save_estimator`, or checkpoint of a `RestorerModule`.
        require_digest: Whether to refuse files that hold no digest, such as older ones, instead of
            warning.

    Returns:
        The estimator, on the CPU, float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is malformed or of another kind, its tensors do not fit the network
            that it describes, or its digest is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of weights, but found none at {path.absolute()}.")
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    elif path.suffix == ".ckpt":
        content = _read_checkpoint(path)
    else:
        raise ValueError(f"Expected `path` to end in .safetensors or .ckpt, but got {path}.")
    check_digest(content.found, content.digest, str(path), required=require_digest)
    with reading(f"{path} to hold an estimator"):
        estimator = _assemble(content.config, content.state)
        estimator.scale_scores(content.scale)
        estimator.lowest_level = check_level(content.lowest_level)
    if content.found is None:
        warn_without_digest(str(path))
    return estimator


@dataclass(frozen=True)
class _Content:
    """What a file holds: a configuration, tensors, and a digest of both, if any, and as it is."""

    config: object
    state: Mapping[str, object]
    found: object
    digest: str
    scale: float = 1.0
    lowest_level: object = None


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a `.safetensors` file; nothing of it is verified.

    Raises:
        ValueError: If it is not a safetensors file.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with reading(f"{path} to be a safetensors file"):
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            yield file


def _read_safetensors(path: Path) -> _Content:
    with _opened(path) as file:
        notes = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if notes.get("format") != _FORMAT or "config" not in notes:
        raise ValueError(
            f"Expected {path} to be written by `save_estimator`, "
            f"but its metadata has the format {notes.get('format')!r}."
        )
    with reading(f"the configuration in {path} to be JSON"):
        if len(notes["config"]) > _LONGEST_CONFIG:
            raise ValueError(f"{len(notes['config']):,} characters, of at most {_LONGEST_CONFIG:,}")
        config = _parse(notes["config"])
    digest = content_digest(notes, state)
    level = notes.get(LOWEST_LEVEL)
    return _Content(config, state, notes.get(DIGEST), digest, lowest_level=level)


def _check_header(path: Path) -> None:
    """Refuse headers that are longer than those of weights, or name a part twice."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length:,} bytes, of at most {_LONGEST_HEADER:,}")
        _parse(file.read(length))


def _parse(text: str | bytes) -> object:
    """Parse JSON as its standard has it: no name twice in one object, no `NaN`, no `Infinity`."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name twice among {[name for name, _ in pairs]}")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name}, which is no number of JSON")


def _read_checkpoint(path: Path) -> _Content:
    checkpoint = read_checkpoint(path)
    prefix = "estimator."
    parameters, state = checkpoint.get("hyper_parameters"), checkpoint.get("state_dict")
    if not isinstance(parameters, dict) or "estimator" not in parameters:
        raise ValueError(
            f"Expected {path} to be a checkpoint of a RestorerModule, "
            f"but its hyper-parameters name no `estimator`."
        )
    if not isinstance(state, dict):
        raise ValueError(f"Expected {path} to hold a `state_dict`, but got {type(state).__name__}.")
    tensors = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    log_scale = state.get("log_scale")  # the factor of the loss, until training has ended
    scale = 1.0
    if isinstance(log_scale, Tensor) and log_scale.ndim == 0:
        scale = float(log_scale.double().exp())
    with reading(f"{path} to be a checkpoint of tensors and plain values"):
        digest = checkpoint_digest(checkpoint)
    level = checkpoint.get(LOWEST_LEVEL)
    return _Content(parameters["estimator"], tensors, checkpoint.get(DIGEST), digest, scale, level)


def check_level(found: Any) -> float | None:
    """Return the `lowest_level` that a file holds, if it holds one.

    Raises:
        ValueError: If it is not a number from −1 to 1.
    """
    try:
        level = None if found is None else float(found)
    except (TypeError, ValueError):
        level = math.nan
    if level is not None and not -1 <= level <= 1:
        raise ValueError(f"a `{LOWEST_LEVEL}` of {str(found)[:16]!r}, not from -1 to 1.")
    return level


def _assemble(config: object, state: Mapping[str, object]) -> Estimator:
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise ValueError(f"a configuration of type {type(config).__name__}, not a mapping.")
    with torch.device("meta"):  # shapes only: an untrusted file must not allocate memory
        estimator = build_estimator(config)
    expected = estimator.state_dict()
    if set(expected) != set(state):
        missing, unknown = set(expected) - set(state), set(state) - set(expected)
        raise ValueError(f"missing tensors {sorted(missing)}, unknown tensors {sorted(unknown)}.")
    tensors = {}
    for name, shape in ((name, tuple(value.shape)) for name, value in expected.items()):
        value = state[name]
        dtype = torch.float32 if expected[name].is_floating_point() else expected[name].dtype
        if not isinstance(value, Tensor) or (
            not value.is_floating_point() if dtype == torch.float32 else value.dtype != dtype
        ):
            kind = "floating" if dtype == torch.float32 else str(dtype)
            raise ValueError(f"{name}, which is not a {kind} tensor.")
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} of shape {tuple(value.shape)}, not {shape}.")
        if not value.isfinite().all():
            raise ValueError(f"{name} with entries that are not finite.")
        tensors[name] = value.detach().to(dtype, copy=True)
    estimator.load_state_dict(tensors, strict=True, assign=True)
    return estimator.eval()
