"""Save and load estimators."""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save as to_safetensors
from torch import Tensor

from eqrestore_lightning.files._reading import reading
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.nn._base import ESTIMATORS
from eqrestore_lightning.weights._arguments import check_arguments
from eqrestore_lightning.weights._bundled import bundled_weights, weights_file
from eqrestore_lightning.weights._digest import (
    DIGEST,
    check_digest,
    content_digest,
    read_checkpoint,
)

_FORMAT = "eqrestore-estimator"
_LONGEST_CONFIG = 20_000  # characters of JSON


def estimator_config(estimator: Estimator) -> dict[str, Any]:
    """Return what `build_estimator` needs, in plain JSON types: `"kind"`, the class, and arguments.

    >>> from eqrestore_lightning import TranslationEstimator
    >>> estimator_config(TranslationEstimator(1, (8, 9), kernel_size=3))["kind"]
    'TranslationEstimator'
    """
    estimator = getattr(estimator, "_orig_mod", estimator)  # of `torch.compile(estimator)`
    config, kind = estimator.config, type(estimator).__name__
    if ESTIMATORS.get(kind) is not type(estimator):
        raise TypeError(
            f"Expected `estimator` to be one of {sorted(ESTIMATORS)}, or of a class with "
            f"`@register_estimator`, but got {kind}."
        )
    return {"kind": kind, **config}


def build_estimator(config: Mapping[str, Any]) -> Estimator:
    """Build an estimator with fresh weights from what `estimator_config` returned."""
    length = len(json.dumps(dict(config), default=str))
    if length > _LONGEST_CONFIG:  # a list of millions of layers, for instance
        raise ValueError(
            f"Expected `config` to have at most {_LONGEST_CONFIG:,} characters of JSON, "
            f"but got {length:,}."
        )
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if str(kind) not in ESTIMATORS:
        importlib.import_module("eqrestore_lightning.theory")  # registers its own
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
    ...     load_estimator(f"{folder}/e.safetensors").axes
    (-1,)
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"Expected `path` to end in .safetensors, but got {path}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Expected the folder of `path` to exist, but got {path.parent}.")
    tensors = {_plain(name): value.detach().cpu() for name, value in estimator.state_dict().items()}
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
    notes[DIGEST] = content_digest(notes, tensors)
    content = to_safetensors({name: value.contiguous() for name, value in tensors.items()}, notes)
    with whole_file(path) as part:
        part.write_bytes(content)


def load_estimator(source: str | os.PathLike[str]) -> Estimator:
    """Load an estimator by the name of bundled weights or by path.

    Nothing in a file is executed, every tensor must be present with its shape, and a file whose
    content is not that of its digest is refused; a digest protects from damage, not from forgery.
    From strangers take `.safetensors`: a `.ckpt` of theirs may claim more memory than there is.

    Args:
        source: A name listed by `bundled_weights`; or the path of a `.safetensors` file of
            `save_estimator`, or of a `.ckpt` file of a `RestorerModule`.

    Returns:
        The estimator, on the CPU, float32.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If `source` is neither a known name nor a path with a known ending, or the file
            is malformed or damaged, or holds no digest.

    >>> load_estimator("digits").spatial_size
    (32, 32)
    """
    path = weights_file(source)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of weights, but found none at {path.absolute()}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".ckpt":
        return _read_restorer(path)
    raise ValueError(f"Expected `path` to end in .safetensors or .ckpt, but got {path}.")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a `.safetensors` file, of which nothing is verified."""
    with reading(f"{path} to be a safetensors file"), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def read_notes(source: str | os.PathLike[str]) -> dict[str, str]:
    """Return what `save_estimator(metadata=…)` was given; of a checkpoint, nothing.

    For bundled weights it is their record in `bundled_weights`, as JSON.

    >>> json.loads(read_notes("digits")["notes"])["purpose"]
    "circular shifts of scikit-learn's digits, padded with zeros"
    """
    if str(source) in (records := bundled_weights()):
        record = records[str(source)]
        del record[DIGEST]  # that of the bundled file
        return {"notes": json.dumps(record, ensure_ascii=False)}
    if Path(source).suffix != ".safetensors":
        return {}
    notes = read_metadata(Path(source))
    return {
        name: value for name, value in notes.items() if name not in ("format", "config", DIGEST)
    }


def _read_safetensors(path: Path) -> Estimator:
    notes = read_metadata(path)
    if notes.get("format") != _FORMAT:
        raise ValueError(
            f"Expected {path} to be written by `save_estimator`, "
            f"but its metadata has the format {notes.get('format')!r}."
        )
    with reading(f"{path} to be a safetensors file"):
        state = load_file(path)
    check_digest(notes.get(DIGEST), content_digest(notes, state), str(path))
    with reading(f"{path} to hold an estimator"):
        return _assemble(json.loads(notes["config"]), state)


def _read_restorer(path: Path) -> Estimator:
    checkpoint, prefix = read_checkpoint(path), "estimator."
    with reading(f"{path} to be a checkpoint of a RestorerModule"):
        config, state = checkpoint["hyper_parameters"]["estimator"], checkpoint["state_dict"]
        tensors = {
            name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)
        }
        estimator = _assemble(config, tensors)
        estimator.scale_scores(float(state["log_scale"].double().exp()))  # 1 after training
    return estimator


def _assemble(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Estimator:
    """Build an estimator whose weights are these, exactly."""
    with torch.device("meta"):  # shapes only: no memory is taken for what a configuration claims
        estimator = build_estimator(config)
    dtypes = {name: value.dtype for name, value in estimator.state_dict().items()}
    tensors = {
        _plain(name): value.to(
            torch.float32 if value.is_floating_point() else value.dtype, copy=True
        )
        for name, value in state.items()
    }
    estimator.load_state_dict(tensors, strict=True, assign=True)
    for name, value in estimator.state_dict().items():
        if value.dtype != dtypes[name]:
            raise ValueError(f"{name} of dtype {value.dtype}, not {dtypes[name]}")
        if not value.isfinite().all():
            raise ValueError(f"{name} with entries that are not finite")
    return estimator.eval()


def _plain(name: str) -> str:
    """Return the name of a tensor without the prefix that `torch.compile` gives it."""
    return name.replace("_orig_mod.", "")
