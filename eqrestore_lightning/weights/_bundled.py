"""Weights that are bundled with the package, and how each was made."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.weights._files import OWN_KEYS, read_estimator, read_metadata

_FOLDER = Path(str(resources.files("eqrestore_lightning.weights")))


def bundled_weights() -> dict[str, dict[str, Any]]:
    """Return the names of the bundled weights, each with a record of how it was made.

    Returns:
        Name to `purpose`, `license`, `recipe`, `command`, `seed`, number of `weights`,
        `training_seconds`, `hardware`, `versions`, `data` and its license, `metrics`, `results`
        beside those of rules that need no training, `not_for` and `digest`.

    >>> bundled_weights()["digits"]["recipe"]
    'recipes/digits.py'
    """
    index: dict[str, dict[str, Any]] = json.loads((_FOLDER / "index.json").read_text("utf-8"))
    return index


def load_estimator(source: str | os.PathLike[str]) -> Estimator:
    """Load an estimator by the name of bundled weights or by path.

    Nothing in a file is executed, and a file whose content is not that of its digest is refused;
    a digest protects from damage, not from forgery. From strangers take `.safetensors`: a `.ckpt`
    of theirs may claim more memory than there is.

    Args:
        source: A name listed by `bundled_weights`, or the path of a `.safetensors` or `.ckpt` file.

    Returns:
        The estimator, on the CPU, float32.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If `source` is neither a known name nor a path with a known ending, or the file
            is malformed or damaged, or holds no digest.

    >>> load_estimator("digits").spatial_size
    (32, 32)
    """
    return read_estimator(weights_file(source))


def weights_file(source: str | os.PathLike[str]) -> Path:
    """Return the path of a file of weights, which bundled ones have too.

    Raises:
        ValueError: If `source` is neither a known name nor a path with an ending.
    """
    path = Path(source)
    if path.suffix:
        return path
    names = sorted(bundled_weights())
    if str(source) not in names:
        raise ValueError(
            f"Expected `source` to be one of {names} or a path that ends in .safetensors or .ckpt, "
            f"but got {str(source)!r}."
        )
    return _FOLDER / f"{source}.safetensors"


def read_notes(source: str | os.PathLike[str]) -> dict[str, str]:
    """Return the notes on where weights come from, as `save_estimator(metadata=…)` takes them.

    Only the head of a file is read, and not verified: `load_estimator` does that.

    Args:
        source: As for `load_estimator`.

    Returns:
        What was given to `save_estimator`; for bundled weights their record of `bundled_weights`,
        as JSON under `"notes"`; nothing for checkpoints.

    Raises:
        ValueError: If a `.safetensors` file is none.

    >>> json.loads(read_notes("digits")["notes"])["purpose"]
    "circular shifts of scikit-learn's digits, padded with zeros"
    """
    if str(source) in (records := bundled_weights()):
        record = records[str(source)]
        del record["digest"]  # that of the bundled file
        return {"notes": json.dumps(record, ensure_ascii=False)}
    if Path(source).suffix != ".safetensors":
        return {}
    return {
        name: value for name, value in read_metadata(Path(source)).items() if name not in OWN_KEYS
    }
