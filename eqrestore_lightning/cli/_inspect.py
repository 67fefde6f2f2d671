"""The command `eqrestore inspect`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from eqrestore_lightning.theory._aperiodic import Translate

_KINDS = ("shifted", "periodic", "constant", "duplicate")


def run(images: Path, image_size: int | None = None, grayscale: bool = False) -> None:
    """Report which images of a folder cannot be restored by any restorer.

    Args:
        images: Folder of images, at any depth. Those are reported that are circular shifts of
            others, that repeat themselves, or that consist of a single color; and exact duplicates,
            which do no harm.
        image_size: Resize images so that their shorter side has this many pixels, and keep the
            central square; required if images differ in size.
        grayscale: Read one channel instead of three.
    """
    from eqrestore_lightning.cli._checks import check_at_least
    from eqrestore_lightning.data import ImageFolderDataModule
    from eqrestore_lightning.data._image_files import find_images
    from eqrestore_lightning.theory import find_translates

    check_at_least(1, image_size=image_size)
    data = ImageFolderDataModule(images, image_size=image_size, grayscale=grayscale)
    pixels = data.read(images).images
    names = [str(path.relative_to(images)) for path in find_images(images)]
    counts: Counter[str] = Counter()
    for found in find_translates(pixels):
        kind, sentence = _describe(found, pixels, names)
        counts[kind] += 1
        print(sentence)  # noqa: T201
    summary = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS)
    size = " × ".join(map(str, pixels.shape[2:]))
    harmful = sum(counts.values()) - counts["duplicate"]
    print(  # noqa: T201
        f"{len(pixels)} images of {size} pixels: {summary}.\n"
        + (
            "No restorer can know where these belong: leave them out, or crop them differently."
            if harmful
            else "Every image can be restored: some estimator is correct on all (Theorem 4.5)."
        )
    )


def _describe(found: "Translate", pixels: "Tensor", names: list[str]) -> tuple[str, str]:
    """Return of which kind a pair of images is, and a sentence about it."""
    first, second = names[found.first], names[found.second]
    motion = "shifted {} pixels down and {} right".format(*found.shift)
    if found.first != found.second:
        if any(found.shift):
            return "shifted", f"{second} is {first} {motion}."
        return "duplicate", f"{second} is equal to {first}."
    flat = pixels[found.first].flatten(1)
    if bool((flat == flat[:, :1]).all()):
        return "constant", f"{first} consists of a single color."
    return "periodic", f"{first} is equal to itself {motion}."
