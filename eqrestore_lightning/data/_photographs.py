"""The photographs that packages ship: nothing to download."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
# Nothing made from a test photograph is ever trained on.
_COLOR: dict[str, dict[str, str]] = {
    "train": {
        "skimage": "astronaut.png hubble_deep_field.jpg ihc.png motorcycle_left.png "
        "motorcycle_right.png retina.jpg",
        "sklearn": "flower.jpg",
    },
    "test": {"skimage": "chelsea.png coffee.png rocket.jpg", "sklearn": "china.jpg"},
}
_GRAY: dict[str, dict[str, str]] = {
    "train": {"skimage": "brick.png camera.png cell.png coins.png grass.png gravel.png moon.png"},
    "test": {},
}


def find_photographs(
    split: Literal["train", "test", "all"] = "all",
    *,
    grayscale: bool = False,
    missing_ok: bool = False,
) -> dict[str, Path]:
    """Return names and paths of photographs that scikit-image and scikit-learn ship, sorted.

    No scene is in both parts. They have from 300 × 451 pixels ("chelsea") to 1411 × 1411
    ("retina"). `grayscale` adds those without colors, which are for training; `missing_ok` leaves
    out what is not installed.

    >>> list(find_photographs("test"))
    ['chelsea', 'china', 'coffee', 'rocket']
    """
    if split not in (*_COLOR, "all"):
        raise ValueError(f"Expected `split` to be one of {(*_COLOR, 'all')}, but got {split!r}.")
    found = {}
    for photographs in (_COLOR, _GRAY) if grayscale else (_COLOR,):
        for part in photographs if split == "all" else (split,):
            for package, names in photographs[part].items():
                found.update({Path(name).stem: _path(package, name) for name in names.split()})
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing and not missing_ok:
        raise FileNotFoundError(
            f"Expected photographs of packages, but found none at {missing}: "
            f"run `pip install scikit-image scikit-learn`."
        )
    return {name: found[name] for name in sorted(found) if found[name].is_file()}


def _path(package: str, name: str) -> Path:
    spec = find_spec(package)
    roots = [package] if spec is None else spec.submodule_search_locations or [package]
    return Path(roots[0], _FOLDERS[package], name)
