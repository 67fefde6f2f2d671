"""Anyone's own images, from a folder."""

import os
from pathlib import Path
from typing import IO

import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as TF
from tqdm import tqdm

from eqrestore_lightning.data._in_memory import (
    SPLITS,
    ImageTensors,
    InMemoryDataModule,
    Split,
    split_at_random,
)


class ImageFolderDataModule(InMemoryDataModule):
    """Serve the images below a folder, decoded once and held in memory.

    Three layouts are understood: `root/train`, `root/val` and `root/test` each with a folder for
    each class; `root` with a folder for each class; `root` with images only (all of class 0). What
    has no folder of its own is dealt out at random by `seed`: a tenth of the training images each
    for validation and test. A restorer needs no classes.

    Args:
        root: The folder; images are found at any depth by their ending.
        image_size: Size of the shorter side after resizing, pixels, before the centre is cut out as
            a square; `None` if all images have one size, which is then left alone.
        grayscale: Whether to read one channel instead of three.
        batch_size: Images in a step, over all processes.
        seed: Decides splits and the order of training images.
        num_workers: Processes that prepare batches; images in memory need none.

    Raises:
        FileNotFoundError: If `root` is no folder, or in `setup` if there are no images in it.
        ValueError: In `setup`, if a file is no readable image, or sizes differ without
            `image_size`.

    Source: layout of `torchvision.datasets.ImageFolder`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        image_size: int | None = None,
        grayscale: bool = False,
        batch_size: int = 256,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed, num_workers=num_workers)
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"Expected a folder of images, but found none at {self.root.absolute()}."
            )
        self.image_size = image_size
        self.grayscale = grayscale
        self.in_channels = 1 if grayscale else 3
        self.classes: list[str] = []

    @property
    def num_classes(self) -> int:  # type: ignore[override]  # known once the folder was read
        """Number of class folders, at least 1."""
        return max(1, len(self.classes))

    def load(self) -> dict[Split, ImageTensors]:
        """Decode every image below `root`."""
        folders: dict[Split, Path] = {
            split: self.root / split for split in SPLITS if (self.root / split).is_dir()
        }
        if "train" not in folders:
            folders = {"train": self.root}
        self.classes = sorted({name for folder in folders.values() for name in _classes(folder)})
        parts = {split: self.read(folder) for split, folder in folders.items()}
        sizes = {part.images.shape[2:] for part in parts.values()}
        if len(sizes) > 1:
            raise ValueError(
                f"Expected images of one size, but got {sorted(map(tuple, sizes))}; "
                f"give `image_size`."
            )
        self.spatial_size = tuple(sizes.pop())
        return self._complete(parts)

    def _complete(self, parts: dict[Split, ImageTensors]) -> dict[Split, ImageTensors]:
        missing = [split for split in SPLITS if split not in parts]
        if not missing:
            return parts
        train = parts["train"]
        share = len(train) // 10
        if share == 0:
            raise ValueError(
                f"Expected at least 10 images to deal out for {' and '.join(missing)}, "
                f"but got {len(train)}."
            )
        sizes: dict[Split, int] = {
            "train": len(train) - share * len(missing),
            **dict.fromkeys(missing, share),
        }
        return {**parts, **split_at_random(train.images, train.labels, sizes, seed=self.seed)}

    def read(self, folder: Path) -> ImageTensors:
        """Decode every image below one folder, labelled by class folder if there are any.

        Raises:
            FileNotFoundError: If there are no images in it.
            ValueError: If a file is no readable image, sizes differ without `image_size`, or only
                some images lie in class folders.
        """
        files = find_images(folder)
        if not files:
            raise FileNotFoundError(
                f"Expected images ending in {', '.join(IMG_EXTENSIONS)}, "
                f"but found none below {folder.absolute()}."
            )
        self.classes = self.classes or _classes(folder)
        first = read_image(files[0], grayscale=self.grayscale, image_size=self.image_size)
        images = torch.empty(len(files), *first.shape, dtype=torch.uint8)
        labels = torch.zeros(len(files), dtype=torch.int64)
        for number, path in enumerate(tqdm(files, desc=f"Decoding {folder}", leave=False)):
            image = read_image(path, grayscale=self.grayscale, image_size=self.image_size)
            if image.shape != first.shape:
                raise ValueError(
                    f"Expected images of one size, {tuple(first.shape[1:])} as {files[0]}, but got "
                    f"{tuple(image.shape[1:])} in {path}; give `image_size`."
                )
            images[number] = image
            if self.classes:
                labels[number] = self.classes.index(_class_name(path, folder))
        return ImageTensors(images, labels)


def find_images(folder: Path) -> list[Path]:
    """List the images below a folder by their ending, sorted by path."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in IMG_EXTENSIONS
    )


def read_image(
    path: Path,
    *,
    grayscale: bool = False,
    image_size: int | None = None,
    file: IO[bytes] | None = None,
) -> Tensor:
    """Decode one image, upright as its EXIF data say: uint8 of shape `(channels, height, width)`.

    Args:
        path: The file.
        grayscale: Whether to give one channel instead of three.
        image_size: Side of the square cut out of the middle, after the shorter side was resized to
            it; `None` to leave the image alone.
        file: Where to read from if not from the disk; `path` is its name then.

    Raises:
        ValueError: If the file is no readable image, or has more than 8 bits a channel.
    """
    try:
        with PIL.Image.open(file or path) as picture:
            mode = picture.mode
            upright = PIL.ImageOps.exif_transpose(picture)
            image: Tensor = TF.pil_to_tensor(upright.convert("L" if grayscale else "RGB"))
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"Expected {path} to be a readable image, but got: {error}") from error
    if mode.startswith(("I", "F")):
        raise ValueError(f"Expected images of 8 bits a channel, but got mode {mode} in {path}.")
    if image_size is not None:
        image = TF.center_crop(TF.resize(image, [image_size], antialias=True), [image_size])
    return image


def _classes(folder: Path) -> list[str]:
    names = sorted({_class_name(path, folder) for path in find_images(folder)})
    if names[1:] and names[0] == "":
        raise ValueError(
            f"Expected all images in {folder} to lie in class folders or none, but got both."
        )
    return names if names != [""] else []


def _class_name(path: Path, folder: Path) -> str:
    """Name the class folder of an image, empty where it lies in none."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""
