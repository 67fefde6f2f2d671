"""The images that `eqrestore fit` trains on, and the network that suits them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from eqrestore_lightning.cli._fit_look import Look
    from eqrestore_lightning.data._module import DataModule

Sources: TypeAlias = Literal["auto", "file"]

CROPPED: dict[str, tuple[int, ...]] = {"photo": (32, 64, 96)}
"""Presets for images of any size, and the sizes of the random crops they are trained on."""

RESIZED: dict[str, int] = {"upright": 64}
"""Presets that need to see whole images, and the size to which these are reduced."""


def choose_network(
    network: str | None, start: str | None, look: "Look | None", *, grayscale: bool
) -> str:
    """Return the network to train, and print why where nobody named one.

    Args:
        network: The one that was named, if any.
        start: Weights to continue from, if any were named.
        look: What images have in common; `None` for signals.
        grayscale: Whether one channel is read.

    Raises:
        ValueError: If the one that was named cannot learn from such images.
    """
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
    look: "Look | None",
    *,
    image_size: int | None,
    crop_sizes: list[int] | None,
    grayscale: bool,
    sources: Sources,
    **options: Any,
) -> "DataModule":
    """Build the data module for a folder of images, or for a file of signals, and read it."""
    from eqrestore_lightning.data import (
        ImageFolderDataModule,
        PhotoCropDataModule,
        SignalDataModule,
    )

    if look is not None and image_size is None and crop_sizes is None:
        crop_sizes = _crop_sizes(network, look)
        if not crop_sizes and len(set(look.sizes)) > 1:
            raise ValueError(
                f"Expected `image_size` for the network {network}, as images differ in size "
                f"({' × '.join(map(str, min(look.sizes)))} to "
                f"{' × '.join(map(str, max(look.sizes)))} pixels)."
            )
    if look is None:
        data: DataModule = SignalDataModule(path, **options)
    elif crop_sizes:
        data = PhotoCropDataModule(
            path, crop_sizes=crop_sizes, grayscale=grayscale, sources=sources, **options
        )
    else:
        data = ImageFolderDataModule(
            path, image_size=image_size, grayscale=grayscale, sources=sources, **options
        )
    data.setup("fit")
    return data


def is_signals(path: Path) -> bool:
    """Return whether a path is a file of signals rather than a folder of images."""
    return path.is_file() or path.suffix.lower() in (".npy", ".csv")


def _crop_sizes(network: str, look: "Look") -> list[int] | None:
    """Return the crops that a network for any size is trained on: those that most images hold."""
    if network not in CROPPED:
        return None
    if len(set(look.sizes)) == 1 and max(look.sizes[0]) <= max(CROPPED[network]):
        return None  # small images of one size are crops already
    shorter = sorted(min(size) for size in look.sizes)
    usual = shorter[len(shorter) // 10]
    return [size for size in CROPPED[network] if size <= usual] or [usual]


def steps_per_epoch(data: "DataModule", num_processes: int) -> int:
    """Let a batch hold no more images than there are, and return the number of batches."""
    from eqrestore_lightning.data import InMemoryDataModule, PhotoCropDataModule

    if isinstance(data, PhotoCropDataModule):
        return data.train_batches
    if isinstance(data, InMemoryDataModule):
        count = len(data.dataset("train")) // num_processes * num_processes
        data.batch_size = min(data.batch_size, count)
        return count // data.batch_size
    return 1
