"""Weights that are bundled with the package, and how each was made."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

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


def weights_file(source: str | os.PathLike[str]) -> Path:
    """Return the path of a file of weights, which bundled ones have too."""
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
