"""The images that `eqrestore fit` trains on, and the network that suits them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.data import (
    ImageFolderDataModule,
    InMemoryDataModule,
    PhotoCropDataModule,
    SignalDataModule,
)
from eqrestore_lightning.data._folder_split import SourceRule
from eqrestore_lightning.data._image_files import find_images, read_image, read_image_size
from eqrestore_lightning.nn import list_presets

FitData = InMemoryDataModule | PhotoCropDataModule

CROPPED: dict[str, tuple[int, ...]] = {"photo": (32, 64, 96)}
"""Presets for images of any size, and the sizes of the random crops they are trained on."""

_RESIZED = {"upright": 64}  # presets that need to see whole images, and to which size
_LOOKED_AT = 48  # images, spread over the folder
_BLANK = 8  # largest difference of values, of 255, in a border that counts as blank
_SEAM = 1.25  # steps across the border, over steps inside, below which an image seems to wrap


@dataclass(frozen=True)
class Look:
    """What images have in common; sizes are those of all images, height and width in pixels."""

    sizes: Sequence[tuple[int, int]]
    gray: bool
    in_blank_border: bool
    seem_shifted: bool


def is_signals(path: Path) -> bool:
    """Return whether a path is a file of signals rather than a folder of images."""
    return path.is_file() or path.suffix.lower() in (".npy", ".csv")


def look_at(folder: Path, *, grayscale: bool) -> Look:
    """Look at the sizes of all images below a folder, and at the pixels of some."""
    files = find_images(folder)
    sizes = [read_image_size(path) for path in files]
    every = -(-len(files) // _LOOKED_AT)
    images = [read_image(path, grayscale=grayscale) for path in files[::every]]
    return Look(
        sizes,
        gray=all(bool((image == image[:1]).all()) for image in images),
        in_blank_border=sum(map(_has_blank_border, images)) > 0.8 * len(images),
        seem_shifted=sum(map(_wraps, images)) > 0.5 * len(images),
    )


def choose_network(
    network: str | None, start: str | None, look: Look | None, *, grayscale: bool
) -> str:
    """Return the network to train, and print why where nobody named one."""
    if network is not None and network not in list_presets():
        raise ValueError(
            f"Expected `network` to be one of {', '.join(list_presets())}, but got {network!r}."
        )
    if look is None:
        return network or "seam"
    if look.seem_shifted:
        print(  # noqa: T201
            "Note: Most images go on from one side to the other, as if they had been shifted "
            "already. Train on images that were not moved."
        )
    if network in CROPPED and start in (None, "scratch") and look.in_blank_border:
        raise ValueError(
            f"Expected `network` to be one for images in a blank border, such as border or "
            f"centered, as these are, but got {network}, which looks for seams in what fills the "
            f"frame."
        )
    if network is not None:
        return network
    if look.in_blank_border:
        chosen, why = "border", "of objects in a blank border"
    else:
        chosen, why = ("seam" if grayscale else "photo"), "that fill the frame"
    if start in (None, "scratch"):
        print(f"Images {why}: network {chosen}.")  # noqa: T201
    return chosen


def open_data(
    path: Path,
    network: str,
    look: Look | None,
    *,
    image_size: int | None,
    grayscale: bool,
    sources: SourceRule,
    **options: Any,
) -> FitData:
    """Build the data module for a folder of images, or for a file of signals, and read it."""
    data: FitData
    image_size = image_size or _RESIZED.get(network)
    crop_sizes = _crop_sizes(network, look) if look and not image_size else None
    if look is None:
        data = SignalDataModule(path, **options)
    elif crop_sizes:
        data = PhotoCropDataModule(
            path, crop_sizes=crop_sizes, grayscale=grayscale, sources=sources, **options
        )
    else:
        if image_size is None and len(set(look.sizes)) > 1:
            smallest, largest = (" × ".join(map(str, end(look.sizes))) for end in (min, max))
            raise ValueError(
                f"Expected `image_size` for the network {network}, as images differ in size "
                f"({smallest} to {largest} pixels)."
            )
        data = ImageFolderDataModule(
            path, image_size=image_size, grayscale=grayscale, sources=sources, **options
        )
    data.setup("fit")
    return data


def steps_per_epoch(data: FitData, num_processes: int) -> int:
    """Let a batch hold no more images than there are, and return the number of batches."""
    if isinstance(data, PhotoCropDataModule):
        return data.train_batches
    count = len(data.dataset("train")) // num_processes * num_processes
    data.batch_size = min(data.batch_size, count)
    return count // data.batch_size


def _crop_sizes(network: str, look: Look) -> list[int] | None:
    """Return the crops that a network for any size is trained on: those that most images hold."""
    if network not in CROPPED:
        return None
    if len(set(look.sizes)) == 1 and max(look.sizes[0]) <= max(CROPPED[network]):
        return None  # small images of one size are crops already
    shorter = sorted(min(size) for size in look.sizes)
    usual = shorter[len(shorter) // 10]
    return [size for size in CROPPED[network] if size <= usual] or [usual]


def _has_blank_border(image: Tensor) -> bool:
    """Check whether the outermost pixels of an image have one color, while others differ."""
    sides = [image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
    frame, whole = torch.cat(sides, 1).int(), image.flatten(1).int()
    spread, inside = (values.amax(1) - values.amin(1) for values in (frame, whole))
    return int(spread.max()) <= _BLANK < int(inside.max())


def _wraps(image: Tensor) -> bool:
    """Check whether an image is smooth, and as smooth across its border as inside.

    >>> ramp = torch.arange(0, 240, 4).repeat(3, 40, 1)
    >>> _wraps(ramp), _wraps(ramp.roll(20, 2))
    (False, True)
    """
    values, found = image.float(), []
    for axis in (1, 2):
        steps = (values - values.roll(1, axis)).abs().mean((0, 3 - axis))
        far = (values - values.roll(values.shape[axis] // 2, axis)).abs().mean()
        inside = steps[1:].mean()
        if 0 < float(inside) < float(far) / 2:
            found.append(float(steps[0] / inside))
    return bool(found) and max(found) < _SEAM and not _has_blank_border(image)
