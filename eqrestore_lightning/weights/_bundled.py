"""Weights that are bundled with the package, and how each was made."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.weights._files import read_estimator

_FOLDER = Path(str(resources.files("eqrestore_lightning.weights")))


def bundled_weights() -> dict[str, dict[str, Any]]:
    """Return the names of the bundled weights, each with a record of how it was made.

    Returns:
        Name to `recipe`, `command`, `seed`, number of `weights`, `training_seconds`, `hardware`,
        `versions` and `metrics`.

    >>> bundled_weights()["digits"]["recipe"]
    'recipes/digits.py'
    """
    index: dict[str, dict[str, Any]] = json.loads((_FOLDER / "index.json").read_text("utf-8"))
    return index


def load_estimator(source: str | os.PathLike[str], *, require_digest: bool = False) -> Estimator:
    """Load an estimator by the name of bundled weights or by path.

    Args:
        source: A name listed by `bundled_weights`, or the path of a `.safetensors` or `.ckpt` file.
        require_digest: Whether to refuse files that hold no digest of their content, instead of
            warning. A digest protects from damage, not from forgery.

    Returns:
        The estimator, on the CPU, float32.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If `source` is neither a known name nor a path with a known ending, or the file
            is malformed or damaged.

    >>> load_estimator("digits").spatial_size
    (32, 32)
    """
    path = Path(source)
    if path.suffix:
        return read_estimator(path, require_digest=require_digest)
    names = sorted(bundled_weights())
    if str(source) not in names:
        raise ValueError(
            f"Expected `source` to be one of {names} or a path that ends in .safetensors or .ckpt, "
            f"but got {str(source)!r}."
        )
    estimator = read_estimator(_FOLDER / f"{source}.safetensors", require_digest=True)
    if estimator.lowest_level is None:  # not yet written down when these were trained
        estimator.lowest_level = 0.0  # all of them on images in 0…1
    return estimator
