"""Random crops of photographs of any size, read from disk as they are needed."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from eqrestore_lightning.data._folder_split import FolderDataModule, SourceRule
from eqrestore_lightning.data._image_files import read_image, read_image_size
from eqrestore_lightning.data._module import SPLITS, Batch, LoaderOptions, Split, check_split

_CROPS = 4  # of one photograph in a batch, for one decoding of it
_EVALUATION_BATCHES = 12
_HEAD = 64 * 1024  # bytes of each file that a fingerprint covers


@dataclass(frozen=True)
class Photo:
    """A photograph on disk, and its height and width in pixels when shown upright."""

    path: Path
    size: tuple[int, int]

    def fits(self, size: tuple[int, int]) -> bool:
        """Return whether a crop of this height and width can be cut out."""
        return self.size[0] >= size[0] and self.size[1] >= size[1]


@dataclass(frozen=True, kw_only=True)
class PhotoCrops(Dataset[Batch]):
    """Batches of random crops, by their number; each photograph is decoded when it is used.

    What batch `k` holds depends on `k` and on these settings alone. Crop sizes take turns from
    batch to batch, and photographs that are large enough for them take turns in random order.
    Crops are dealt out in turn at `place`: the number of processes, and the index of this one.
    """

    photos: tuple[Photo, ...]
    crop_sizes: tuple[tuple[int, int], ...]
    num_batches: int
    batch_size: int
    flips: bool
    grayscale: bool
    seed: int
    place: tuple[int, int] = (1, 0)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> Batch:
        crops = self._crops(step).float() / 255
        return crops, torch.zeros(len(crops), dtype=torch.int64)

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(len(self)))

    def _crops(self, step: int) -> Tensor:
        """Return the crops of a batch, uint8 of shape `(batch, channels, *size)`."""
        turn, which = divmod(step, len(self.crop_sizes))
        height, width = self.crop_sizes[which]
        num_photos = -(-self.batch_size // _CROPS)
        chosen = self._choose((height, width), turn * num_photos, num_photos)
        generator = _generator(self.seed, step)
        draws = torch.rand(self.batch_size, 4, dtype=torch.float64, generator=generator)
        num_processes, rank = self.place
        of_photo: dict[Photo, list[int]] = defaultdict(list)
        for position in range(rank, self.batch_size, num_processes):
            of_photo[chosen[position % num_photos]].append(position)
        crops: dict[int, Tensor] = {}
        for photo, positions in of_photo.items():
            image = read_image(photo.path, grayscale=self.grayscale)
            for position in positions:
                crops[position] = self._crop(image, height, width, draws[position].tolist())
        return torch.stack([crops[position] for position in sorted(crops)])

    def _choose(self, size: tuple[int, int], start: int, count: int) -> list[Photo]:
        """Return the photographs at positions `start`, … of an endless series of shuffles."""
        fitting = [photo for photo in self.photos if photo.fits(size)]
        rounds: dict[int, list[int]] = {}
        chosen = []
        for place in range(start, start + count):
            number, within = divmod(place, len(fitting))
            if number not in rounds:
                generator = _generator(self.seed, number, *size)
                rounds[number] = torch.randperm(len(fitting), generator=generator).tolist()
            chosen.append(fitting[rounds[number][within]])
        return chosen

    def _crop(self, image: Tensor, height: int, width: int, draws: Sequence[float]) -> Tensor:
        top = int(draws[0] * (image.shape[1] - height + 1))
        left = int(draws[1] * (image.shape[2] - width + 1))
        crop = image[:, top : top + height, left : left + width]
        axes = [
            axis for axis, draw in ((-2, draws[2]), (-1, draws[3])) if self.flips and draw < 0.5
        ]
        return crop.flip(axes) if axes else crop.clone()  # not a view that holds the photograph


class PhotoCropDataModule(FolderDataModule):
    """Serve random crops of photographs of any size, read from disk as they are needed.

    Each batch holds crops of one size, and sizes take turns. Training crops are drawn anew in each
    epoch and mirrored at random; the 12 batches of validation and of test are the same each time.
    Step `k` sees the same crops whatever the number of processes and workers. All labels are 0.

    Two layouts are recognized: `root/train`, `root/val` and `root/test`; or `root` with images at
    any depth, of which about a tenth each is set aside for validation and testing. Photographs of
    one source stay in one split: those of one folder, if there are at least three folders, or whose
    file names differ only in the numbers at their end. `describe_split` reports what was
    recognized.

    Args:
        root: The folder; photographs are found at any depth by their extension.
        crop_sizes: Side of square crops, pixels, or height and width; photographs smaller than a
            size are left out for it.
        train_batches: Length of a training epoch.
        grayscale: Whether to read one channel instead of three.
        sources: `"file"` if each photograph is its own source.
        **options: `batch_size` (here 64 by default), `seed` and `num_workers` of
            `InMemoryDataModule`.

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
        train_batches: int = 200,
        grayscale: bool = False,
        sources: SourceRule = "auto",
        **options: Unpack[LoaderOptions],
    ) -> None:
        options.setdefault("batch_size", 64)
        super().__init__(root, sources=sources, **options)
        if train_batches < 1:
            raise ValueError(f"Expected `train_batches` to be at least 1, but got {train_batches}.")
        self.crop_sizes = _pairs(crop_sizes)
        self.train_batches = train_batches
        self.grayscale = grayscale
        self.in_channels = 1 if grayscale else 3
        self._photos: dict[Split, tuple[Photo, ...]] = {}

    @override
    def setup(self, stage: str | None = None) -> None:
        del stage
        if not self._photos:
            self._photos = {
                split: tuple(Photo(path, read_image_size(path)) for path in files)
                for split, files in self.folder_split.files.items()
            }

    @override
    def dataset(self, split: Split) -> PhotoCrops:  # of the first epoch, for training
        check_split(split)
        self.setup()
        photos, train = self._photos[split], split == "train"
        for size in self.crop_sizes:
            if not any(photo.fits(size) for photo in photos):
                largest = max((photo.size for photo in photos), key=min)
                raise ValueError(
                    f"Expected a {split} photograph of at least {size[0]} × {size[1]} pixels "
                    f"below {self.root}, but the largest of {len(photos)} has {largest[0]} × "
                    f"{largest[1]}; leave this size out, or add larger photographs."
                )
        return PhotoCrops(
            photos=photos,
            crop_sizes=self.crop_sizes,
            num_batches=self.train_batches if train else _EVALUATION_BATCHES,
            batch_size=self.batch_size,
            flips=train,
            grayscale=self.grayscale,
            seed=self.seed * len(SPLITS) + SPLITS.index(split),
        )

    @override
    def fingerprint(self) -> str:  # of paths below `root`, lengths and heads of all files
        self.setup()
        digest = hashlib.sha256()
        for split in SPLITS:
            for photo in self._photos[split]:
                name = photo.path.relative_to(self.root).as_posix()
                digest.update(f"{split} {name} {photo.path.stat().st_size};".encode())
                with photo.path.open("rb") as file:
                    digest.update(file.read(_HEAD))
        return digest.hexdigest()[:16]

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val")

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[Batch]:
        self._batch_size_per_process()
        dataset = replace(self.dataset(split), place=self._place)
        sampler = _EachStep(dataset, goes_on=split == "train")
        return DataLoader(dataset, batch_size=None, sampler=sampler, **self._worker_options())


class _EachStep(UnrepeatedDistributedSampler):
    """Number the batches, in training consecutively over epochs; each process takes all of them.

    Lightning leaves samplers of this type unchanged, and sets their epoch.
    """

    def __init__(self, dataset: PhotoCrops, *, goes_on: bool) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=False)
        self.goes_on = goes_on

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]  # annotated there as batches
        start = self.epoch * len(self) if self.goes_on else 0
        return iter(range(start, start + len(self)))


def _generator(*numbers: int) -> torch.Generator:
    """Return a generator that all of these numbers determine."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def _pairs(sizes: Sequence[int | Sequence[int]]) -> tuple[tuple[int, int], ...]:
    pairs = [(size, size) if isinstance(size, int) else tuple(size) for size in sizes]
    if not pairs or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(
            f"Expected sizes of crops as numbers above 0, or pairs of height and width, "
            f"but got {sizes}."
        )
    return tuple((height, width) for height, width in pairs)
