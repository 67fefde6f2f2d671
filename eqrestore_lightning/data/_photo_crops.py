"""Random crops of photographs of any size, read from disk as they are needed."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch.utils.data import DataLoader

from eqrestore_lightning.data._crops import EachStep, Photo, PhotoCrops
from eqrestore_lightning.data._folder_split import FolderDataModule
from eqrestore_lightning.data._image_files import read_image_size
from eqrestore_lightning.data._in_memory import ImageTensors
from eqrestore_lightning.data._module import (
    SPLITS,
    Batch,
    LoaderOptions,
    Split,
    check_split,
)
from eqrestore_lightning.data._sources import SourceRule

_HEAD = 64 * 1024  # bytes of each file that a fingerprint covers


class PhotoCropDataModule(FolderDataModule):
    """Serve random crops of photographs of any size, read from disk as they are needed.

    Each batch holds crops of one size, and sizes take turns. Training crops are drawn anew in each
    epoch and mirrored at random; validation and test crops are the same each time. Step `k` sees
    the same crops whatever the number of processes and workers.

    Two layouts are recognized: `root/train`, `root/val` and `root/test`; or `root` with images at
    any depth, of which about a tenth each is set aside for validation and testing. Photographs of
    one source stay in one split: those of one folder, if there are at least three folders, or whose
    file names differ only in the numbers at their end. `describe_split` reports what was
    recognized.

    Args:
        root: The folder; photographs are found at any depth by their extension.
        crop_sizes: Side of square crops, pixels, or height and width; photographs smaller than a
            size are left out for it.
        crops_per_photo: Crops of a batch that share one photograph, and so one decoding of it.
        train_batches: Length of a training epoch.
        evaluation_batches: Number of validation batches, and of test batches.
        flips: Whether to mirror training crops at random along each axis.
        grayscale: Whether to read one channel instead of three.
        sources: What photographs of one source have in common, see `ImageFolderDataModule`.
        **options: `batch_size` (here 64 by default), `seed` and `num_workers` of `DataModule`.

    Raises:
        FileNotFoundError: If `root` is not a folder, or in `setup` if there are no images in it.
        ValueError: If a number is out of range or `sources` is unknown; in `setup`, if a file is
            not a readable image, or if there are too few photographs, sources, or photographs of
            some size.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog", "owl"):
    ...         Image.new("RGB", (30, 20)).save(f"{folder}/{name}.png")
    ...     data = PhotoCropDataModule(folder, crop_sizes=[(8, 12), 16], batch_size=2)
    ...     [images.shape for images, _ in data.train_dataloader()][:2]
    [torch.Size([2, 3, 8, 12]), torch.Size([2, 3, 16, 16])]
    """

    num_classes = 1
    spatial_size = None
    noun = "photographs"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        crop_sizes: Sequence[int | Sequence[int]] = (32, 64, 96),
        crops_per_photo: int = 4,
        train_batches: int = 200,
        evaluation_batches: int = 12,
        flips: bool = True,
        grayscale: bool = False,
        sources: SourceRule = "auto",
        **options: Unpack[LoaderOptions],
    ) -> None:
        options.setdefault("batch_size", 64)
        super().__init__(root, sources=sources, **options)
        for name, value in (
            ("crops_per_photo", crops_per_photo),
            ("train_batches", train_batches),
            ("evaluation_batches", evaluation_batches),
        ):
            if value < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {value}.")
        self.crop_sizes = _pairs(crop_sizes)
        self.crops_per_photo = crops_per_photo
        self.train_batches = train_batches
        self.evaluation_batches = evaluation_batches
        self.flips = flips
        self.grayscale = grayscale
        self.in_channels = 1 if grayscale else 3
        self._photos: dict[Split, tuple[Photo, ...]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Find the photographs, once, and read their sizes."""
        del stage
        if not self._photos:
            self._photos = {
                split: tuple(Photo(path, read_image_size(path)) for path in files)
                for split, files in self.folder_split.files.items()
            }

    def dataset(self, split: Split) -> PhotoCrops:
        """Return the batches of a split: those of its first epoch, for training."""
        return self._crops(
            split,
            crop_sizes=self.crop_sizes,
            num_batches=self.train_batches if split == "train" else self.evaluation_batches,
            flips=self.flips and split == "train",
        )

    def crops(self, split: Split, size: int | Sequence[int], count: int) -> ImageTensors:
        """Return crops of one size, the same each time and not mirrored, in memory.

        Args:
            split: Which photographs to crop.
            size: Side of the crops, pixels, or height and width.
            count: Number of crops.

        Returns:
            uint8 of shape `(count, channels, *size)`; all labels are 0.
        """
        drawn = self._crops(split, crop_sizes=_pairs([size]), num_batches=1, batch_size=count)
        return ImageTensors(drawn.crops(0), torch.zeros(count, dtype=torch.int64))

    def _crops(
        self, split: Split, *, crop_sizes: tuple[tuple[int, int], ...], **settings: Any
    ) -> PhotoCrops:
        check_split(split)
        self.setup()
        photos = self._photos[split]
        for size in crop_sizes:
            if not any(photo.fits(size) for photo in photos):
                largest = max((photo.size for photo in photos), key=min)
                raise ValueError(
                    f"Expected a {split} photograph of at least {size[0]} × {size[1]} pixels "
                    f"below {self.root}, but the largest of {len(photos)} has {largest[0]} × "
                    f"{largest[1]}; leave this size out, or add larger photographs."
                )
        return PhotoCrops(
            photos=photos,
            crop_sizes=crop_sizes,
            crops_per_photo=self.crops_per_photo,
            grayscale=self.grayscale,
            seed=self.seed * len(SPLITS) + SPLITS.index(split),
            **{"batch_size": self.batch_size, **settings},
        )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of a SHA-256 over the photographs of each split.

        Of each file it covers the path below `root`, the number of bytes and the first 64 KiB; it
        takes about as long as opening every file once.
        """
        self.setup()
        digest = hashlib.sha256()
        for split in SPLITS:
            for photo in self._photos[split]:
                name = photo.path.relative_to(self.root).as_posix()
                digest.update(f"{split} {name} {photo.path.stat().st_size};".encode())
                with photo.path.open("rb") as file:
                    digest.update(file.read(_HEAD))
        return digest.hexdigest()[:16]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of `train_batches` batches, different ones in each epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of `evaluation_batches` batches, the same each time."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of `evaluation_batches` batches, the same each time."""
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[Batch]:
        self._batch_size_per_process()
        dataset = dataclasses.replace(self.dataset(split), place=self._place)
        return dataset.loader(
            self.batch_size,
            sampler=EachStep(dataset, goes_on=split == "train"),
            **self._worker_options(),
        )


def _pairs(sizes: Sequence[int | Sequence[int]]) -> tuple[tuple[int, int], ...]:
    pairs = [(size, size) if isinstance(size, int) else tuple(size) for size in sizes]
    if not pairs or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(
            f"Expected sizes of crops as numbers above 0, or pairs of height and width, "
            f"but got {sizes}."
        )
    return tuple((height, width) for height, width in pairs)
