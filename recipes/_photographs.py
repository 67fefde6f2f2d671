"""Photographs that come with wheels: nothing to download.

`scikit-image` and `scikit-learn` ship a few colour photographs inside their wheels. What is
trained on them never sees the test photographs: the split is by source, and the two pictures of
the motorcycle are one source.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import PIL.Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

Split: TypeAlias = Literal["train", "test", "all"]

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}  # package -> where it keeps pictures
_FILES = {
    "train": {
        "astronaut": ("skimage", "astronaut.png"),
        "flower": ("sklearn", "flower.jpg"),
        "hubble": ("skimage", "hubble_deep_field.jpg"),
        "ihc": ("skimage", "ihc.png"),
        "motorcycle_left": ("skimage", "motorcycle_left.png"),
        "motorcycle_right": ("skimage", "motorcycle_right.png"),
        "retina": ("skimage", "retina.jpg"),
    },
    "test": {
        "chelsea": ("skimage", "chelsea.png"),
        "china": ("sklearn", "china.jpg"),
        "coffee": ("skimage", "coffee.png"),
        "rocket": ("skimage", "rocket.jpg"),
    },
}


def load_photographs(split: Split = "all") -> dict[str, Tensor]:
    """Load the photographs of a split, in alphabetical order of their names.

    Args:
        split: Which ones; no source is in both `"train"` and `"test"`.

    Returns:
        Name of each photograph -> uint8 of shape `(3, height, width)`, at its own size (from
        300 × 451 for "chelsea" to 1411 × 1411 for "retina").

    Raises:
        FileNotFoundError: If a package is not installed, or does not hold the photograph.
        ValueError: If `split` is unknown.
    """
    if split not in (*_FILES, "all"):
        raise ValueError(f"Expected `split` to be one of {(*_FILES, 'all')}, but got {split!r}.")
    chosen = [part for name, part in _FILES.items() if split in (name, "all")]
    files = {name: file for part in chosen for name, file in part.items()}
    return {name: _read(*files[name]) for name in sorted(files)}


def _read(package: str, file: str) -> Tensor:
    spec = find_spec(package)
    roots = [] if spec is None else list(spec.submodule_search_locations or [])
    path = Path(*roots[:1]) / _FOLDERS[package] / file
    if not roots or not path.is_file():
        raise FileNotFoundError(
            f"Expected the photograph {file} in the package {package}, but found none at {path}; "
            f"run `pip install scikit-image scikit-learn`."
        )
    with PIL.Image.open(path) as picture:
        photograph: Tensor = TF.pil_to_tensor(picture.convert("RGB"))
    return photograph
