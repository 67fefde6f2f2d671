"""The command `eqrestore inspect`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from eqrestore_lightning.functional import Translate


def inspect(images: Path, image_size: int | None = None, grayscale: bool = False) -> None:
    """Tell which images of a folder have no place of their own, so that no restorer can find it.

    These are images that are circular shifts of others, that repeat themselves, or that have one
    colour. Exact duplicates are named too; they do no harm.

    Args:
        images: Folder of images, at any depth.
        image_size: Resize and cut images to squares of this many pixels; needed if sizes differ.
        grayscale: Read one channel instead of three.
    """
    from eqrestore_lightning.data import ImageFolderDataModule, find_images
    from eqrestore_lightning.functional import find_translates

    data = ImageFolderDataModule(images, image_size=image_size, grayscale=grayscale)
    pixels = data.read(images).images
    names = [str(path.relative_to(images)) for path in find_images(images)]
    counts: Counter[str] = Counter()
    for found in find_translates(pixels):
        kind = _kind(found, pixels)
        counts[kind] += 1
        print(_sentence(kind, found, names))  # noqa: T201
    told = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS)
    size = " x ".join(map(str, pixels.shape[2:]))
    harmful = sum(counts.values()) - counts["duplicate"]
    print(  # noqa: T201
        f"{len(pixels)} images of {size} pixels: {told}.\n"
        + (
            "No restorer can tell where these belong: leave them out, or cut them otherwise."
            if harmful
            else "Each has one place: some estimator is right on all of them (Theorem 4.5)."
        )
    )


_KINDS = ("shifted", "periodic", "constant", "duplicate")


def _kind(found: "Translate", pixels: "Tensor") -> str:
    if found.first != found.second:
        return "shifted" if any(found.shift) else "duplicate"
    flat = pixels[found.first].flatten(1)
    return "constant" if bool((flat == flat[:, :1]).all()) else "periodic"


def _sentence(kind: str, found: "Translate", names: list[str]) -> str:
    down, right = found.shift
    motion = f"shifted by {down} down and {right} right"
    return {
        "shifted": f"{names[found.second]} is {names[found.first]} {motion}.",
        "periodic": f"{names[found.second]} is equal to itself {motion}.",
        "constant": f"{names[found.second]} has one colour.",
        "duplicate": f"{names[found.second]} is equal to {names[found.first]}.",
    }[kind]
