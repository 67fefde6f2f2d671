"""Batches of random crops, each determined by its number."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.data._module import Batch


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

    Args:
        photos: What to crop, at least one of them large enough for each size.
        crop_sizes: Height and width of crops, pixels.
        num_batches: Length of this dataset; of an epoch, in training.
        batch_size: Crops in a batch, over all processes.
        crops_per_photo: Crops that share one decoded photograph.
        flips: Whether to mirror crops at random along each axis.
        grayscale: Whether to read one channel instead of three.
        seed: Determines all draws.
        place: Number of processes, and the index of this one; crops are dealt out to them in turn.
    """

    photos: tuple[Photo, ...]
    crop_sizes: tuple[tuple[int, int], ...]
    num_batches: int
    batch_size: int
    crops_per_photo: int = 4
    flips: bool = False
    grayscale: bool = False
    seed: int = 0
    place: tuple[int, int] = (1, 0)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> Batch:
        crops = self.crops(step)
        return crops.float() / 255, torch.zeros(len(crops), dtype=torch.int64)

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(len(self)))

    def loader(self, batch_size: int, **options: Any) -> DataLoader[Batch]:
        """Return a loader of batches of this size, with further `options`."""
        return DataLoader(
            dataclasses.replace(self, batch_size=batch_size), batch_size=None, **options
        )

    def crops(self, step: int) -> Tensor:
        """Return the crops of batch number `step`, uint8 of shape `(batch, channels, *size)`."""
        turn, which = divmod(step, len(self.crop_sizes))
        height, width = self.crop_sizes[which]
        num_photos = -(-self.batch_size // self.crops_per_photo)
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


class EachStep(UnrepeatedDistributedSampler):
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
