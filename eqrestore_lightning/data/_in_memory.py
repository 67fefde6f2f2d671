"""Images held in memory, and the same batches for any number of processes."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import lightning
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

Batch: TypeAlias = tuple[Tensor, Tensor]
Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class ImageTensors(Dataset[Batch]):
    """Images and labels in memory; whole batches are taken at once, not sample by sample.

    Args:
        images: uint8 of shape `(num_images, channels, *spatial)`.
        labels: int64 of shape `(num_images,)`.

    Raises:
        TypeError: If `images` is not uint8.
        ValueError: If the numbers of images and labels differ.

    Source: own.

    >>> images = torch.full((3, 1, 4, 5), 255, dtype=torch.uint8)
    >>> image, label = ImageTensors(images, torch.tensor([7, 8, 9]))[1]
    >>> image.max(), label
    (tensor(1.), tensor(8))
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(f"Expected `images` to have dtype torch.uint8, but got {images.dtype}.")
        if len(images) != len(labels):
            raise ValueError(
                f"Expected as many labels as images, {len(images)}, but got {len(labels)}."
            )
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index].float() / 255, self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[chosen].float() / 255, self.labels[chosen]

    def loader(self, batch_size: int, **options: Any) -> DataLoader[Batch]:
        """Give a `torch.utils.data.DataLoader` with further `options`, one look-up for a batch."""
        return DataLoader(self, batch_size=batch_size, collate_fn=_as_it_is, **options)


class InMemoryDataModule(lightning.LightningDataModule):
    """Serve images held in memory; a subclass says where they come from, in `load`.

    A batch is `(images, labels)`: float32 from 0 to 1 of shape `(batch, channels, *spatial)`, int64
    of shape `(batch,)`.

    Convention:
        `batch_size` counts the images of one optimiser step over **all** processes, and step `k`
        sees the same images whatever their number. Training leaves out the last, smaller batch;
        validation and test use every image exactly once.

    Args:
        batch_size: Images in a step, over all processes.
        seed: Decides the order of training images, and random splits.
        num_workers: Processes that prepare batches; images in memory need none.

    Raises:
        ValueError: If `batch_size` is below 1.

    Source: own.
    """

    in_channels: int
    num_classes: int
    spatial_size: tuple[int, ...] = (32, 32)

    def __init__(self, *, batch_size: int = 256, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"Expected `batch_size` to be at least 1, but got {batch_size}.")
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self._datasets: dict[Split, ImageTensors] = {}

    def load(self) -> dict[Split, ImageTensors]:
        """Read the images of each split."""
        raise TypeError(f"Expected {type(self).__name__} to define `load`, but it does not.")

    def setup(self, stage: str | None = None) -> None:
        """Read the images, once."""
        del stage
        if not self._datasets:
            self._datasets = self.load()

    def dataset(self, split: Split) -> ImageTensors:
        """Give the images and labels of a split, reading them if needed."""
        if split not in SPLITS:
            raise ValueError(f"Expected `split` to be one of {SPLITS}, but got {split!r}.")
        self.setup()
        return self._datasets[split]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches, each epoch in another order."""
        dataset = self.dataset("train")
        if len(dataset) < self.batch_size:
            raise ValueError(
                f"Expected `batch_size` to be at most the number of training images, "
                f"{len(dataset)}, but got {self.batch_size}."
            )
        sampler: DistributedSampler[Any] = DistributedSampler(
            dataset, *self._place(), seed=self.seed, drop_last=True
        )
        return self._loader(dataset, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation image once."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every test image once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Every test image once."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        dataset = self.dataset(split)
        if len(dataset) < self._place()[0]:
            raise ValueError(
                f"Expected at least one {split} image for each of {self._place()[0]} processes, "
                f"but got {len(dataset)}."
            )
        sampler = UnrepeatedDistributedSampler(dataset, *self._place(), shuffle=False)
        return self._loader(dataset, sampler, drop_last=False)

    def _place(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def _loader(
        self, dataset: ImageTensors, sampler: DistributedSampler[Any], *, drop_last: bool
    ) -> DataLoader[Batch]:
        num_processes = self._place()[0]
        if self.batch_size % num_processes:
            raise ValueError(
                f"Expected `batch_size` to be a multiple of the number of processes, "
                f"{num_processes}, but got {self.batch_size}."
            )
        return dataset.loader(
            self.batch_size // num_processes,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def split_at_random(
    images: Tensor, labels: Tensor, sizes: dict[Split, int], *, seed: int
) -> dict[Split, ImageTensors]:
    """Deal images out at random, in the order of `sizes`."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    parts = torch.split(order, list(sizes.values()))
    return {
        name: ImageTensors(images[part], labels[part])
        for name, part in zip(sizes, parts, strict=True)
    }
