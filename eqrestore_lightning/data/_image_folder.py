"""Your own images, from a folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
from tqdm import tqdm
from typing_extensions import override

from eqrestore_lightning.data._folder_split import FolderDataModule, SourceRule
from eqrestore_lightning.data._image_files import find_images, read_image
from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._module import SPLITS, LoaderOptions, Split


class ImageFolderDataModule(FolderDataModule, InMemoryDataModule):
    """Serve the images below a folder, decoded once and held in memory.

    Three layouts are recognized: `root/train`, `root/val` and `root/test`, each with a folder for
    each class; `root` with a folder for each class; `root` with images in it, and perhaps in
    folders below, too (all of class 0). For a split without a folder of its own, about a tenth of
    the training images are set aside, chosen at random by `seed`. A restorer needs no classes.

    What comes from one source, such as overlapping crops of one photograph, stays in one split:
    images of one folder below a class folder, or whose file names differ only in the numbers at
    their end (`china_001.png`, `china-12.jpg`). `describe_split` reports what was recognized.

    Args:
        root: The folder; images are found at any depth by their extension.
        image_size: Size of the shorter side after resizing, pixels, before the center is cut out as
            a square; `None` if all images have one size, and are to be left unchanged.
        grayscale: Whether to read one channel instead of three.
        sources: `"file"` if each image is its own source.
        **options: `batch_size`, `seed` and `num_workers` of `InMemoryDataModule`.

    Raises:
        FileNotFoundError: If `root` is not a folder, or in `setup` if there are no images in it.
        ValueError: If `sources` is unknown; in `setup`, if a file is not a readable image, if sizes
            differ without `image_size`, or if there are too few sources to split.

    Source: The layout is that of `torchvision.datasets.ImageFolder`.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog", "owl", "rose", "tree"):
    ...         Image.new("RGB", (30, 20)).save(f"{folder}/{name}.png")
    ...     data = ImageFolderDataModule(folder, image_size=16, batch_size=2)
    ...     next(iter(data.train_dataloader()))[0].shape
    torch.Size([2, 3, 16, 16])
    """

    has_classes = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        image_size: int | None = None,
        grayscale: bool = False,
        sources: SourceRule = "auto",
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(root, sources=sources, **options)
        self.image_size = image_size
        self.grayscale = grayscale
        self.in_channels = 1 if grayscale else 3
        self.classes: list[str] = []

    @property
    def num_classes(self) -> int:  # type: ignore[override]  # known once the folder was read
        """Number of class folders, at least 1."""
        return max(1, len(self.classes))

    @override
    def load(self) -> dict[Split, ImageTensors]:
        found = self.folder_split
        folders = sorted(set(found.folders.values()))
        self.classes = sorted({name for folder in folders for name in _classes(folder)})
        parts = {split: self._decode(found.files[split], found.folders[split]) for split in SPLITS}
        sizes = {part.images.shape[2:] for part in parts.values()}
        if len(sizes) > 1:
            raise ValueError(
                f"Expected images of one size, but got {sorted(map(tuple, sizes))}; "
                f"set `image_size`."
            )
        self.spatial_size = tuple(sizes.pop())
        return parts

    def read(self, folder: Path) -> ImageTensors:
        """Decode every image below one folder, labeled by class folder if there are any."""
        self.classes = self.classes or _classes(folder)
        return self._decode(find_images(folder), folder)

    def _decode(self, files: Sequence[Path], folder: Path) -> ImageTensors:
        first = read_image(files[0], grayscale=self.grayscale, image_size=self.image_size)
        images = torch.empty(len(files), *first.shape, dtype=torch.uint8)
        labels = torch.zeros(len(files), dtype=torch.int64)
        bar = tqdm(files, desc=f"Decoding {folder}", leave=False, disable=None)
        for number, path in enumerate(bar):
            image = read_image(path, grayscale=self.grayscale, image_size=self.image_size)
            if image.shape != first.shape:
                raise ValueError(
                    f"Expected images of one size, {tuple(first.shape[1:])} like {files[0]}, but "
                    f"got {tuple(image.shape[1:])} in {path}; set `image_size`."
                )
            images[number] = image
            if self.classes:
                labels[number] = self.classes.index(_class_name(path, folder))
        return ImageTensors(images, labels)


def _classes(folder: Path) -> list[str]:
    names = sorted({_class_name(path, folder) for path in find_images(folder)})
    return names if "" not in names else []


def _class_name(path: Path, folder: Path) -> str:
    """Return the name of an image's class folder, empty if it lies in none."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""
