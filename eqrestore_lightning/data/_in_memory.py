"""Images held in memory, and the same batches for any number of processes."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from typing_extensions import override

from eqrestore_lightning.data._module import SPLITS, Batch, DataModule, Split, check_split


class ImageTensors(Dataset[Batch]):
    """Images and labels in memory; batches are taken as a whole, not sample by sample.

    Args:
        images: Shape `(num_images, channels, *spatial)`, uint8, served divided by 255; or float32,
            for signals, served as it is.
        labels: int64 of shape `(num_images,)`.

    Raises:
        TypeError: If `images` is neither uint8 nor float32.
        ValueError: If the numbers of images and labels differ.

    >>> images = torch.full((3, 1, 4, 5), 255, dtype=torch.uint8)
    >>> image, label = ImageTensors(images, torch.tensor([7, 8, 9]))[1]
    >>> image.max(), label
    (tensor(1.), tensor(8))
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype not in (torch.uint8, torch.float32):
            raise TypeError(
                f"Expected `images` to have dtype torch.uint8 or torch.float32, "
                f"but got {images.dtype}."
            )
        if len(images) != len(labels):
            raise ValueError(
                f"Expected as many labels as images, {len(images)}, but got {len(labels)}."
            )
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return _served(self.images[index]), self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return _served(self.images[chosen]), self.labels[chosen]

    def loader(self, batch_size: int, **options: Any) -> DataLoader[Batch]:
        """Return a `torch.utils.data.DataLoader` with further `options`."""
        return DataLoader(self, batch_size=batch_size, collate_fn=_unchanged, **options)

    def fingerprint(self) -> str:
        """Return the first 16 hexadecimal digits of a SHA-256 over images and labels.

        It covers shape, dtype and every value, and takes about a second per gigabyte.

        >>> images = torch.arange(6, dtype=torch.uint8).reshape(2, 1, 3)
        >>> ImageTensors(images, torch.tensor([0, 1])).fingerprint()
        '3a9c870e92c59f82'
        """
        digest = hashlib.sha256()
        for values in (self.images, self.labels):
            digest.update(f"{values.dtype} {tuple(values.shape)};".encode())
            digest.update(raw_bytes(values))
        return digest.hexdigest()[:16]


class InMemoryDataModule(DataModule):
    """Serve images held in memory; a subclass reads them, in `load`.

    A batch is `(images, labels)`: float32 of shape `(batch, channels, *spatial)` and int64 of shape
    `(batch,)`; labels are 0 where there are no classes. The arguments of the constructor, those of
    subclasses included, become `hparams`.

    Convention:
        `batch_size` counts the images of one optimizer step over **all** processes, and step `k`
        sees the same images whatever their number. Training leaves out an incomplete last batch;
        validation and test use every image exactly once.

    Args:
        batch_size: Images in a step, over all processes.
        seed: Determines the order of training images, and random splits.
        num_workers: Processes that prepare batches; images in memory need none.

    Raises:
        ValueError: If `batch_size` is below 1.

    >>> class Dots(InMemoryDataModule):
    ...     in_channels, num_classes, spatial_size = 1, 1, (4, 5)
    ...
    ...     def load(self):
    ...         images = torch.zeros(9, 1, 4, 5, dtype=torch.uint8)
    ...         images[:, :, 1, 2] = 255
    ...         part = ImageTensors(images, torch.zeros(9, dtype=torch.int64))
    ...         return {"train": part, "val": part, "test": part}
    >>> images, labels = next(iter(Dots(batch_size=3).train_dataloader()))
    >>> images.shape
    torch.Size([3, 1, 4, 5])
    """

    spatial_size: tuple[int, ...] = (32, 32)
    _datasets: dict[Split, ImageTensors] | None = None

    @abstractmethod
    def load(self) -> dict[Split, ImageTensors]:
        """Read the images of each split."""

    @override
    def setup(self, stage: str | None = None) -> None:
        del stage
        if self._datasets is None:
            self._datasets = self.load()

    @override
    def dataset(self, split: Split) -> ImageTensors:
        check_split(split)
        self.setup()
        return (self._datasets or {})[split]

    @override
    def fingerprint(self) -> str:  # of the images, whatever settings or files they come from
        digests = [f"{split} {self.dataset(split).fingerprint()};" for split in SPLITS]
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]

    @override
    def describe_split(self) -> str:
        train, val, test = (f"{len(self.dataset(split)):,}" for split in SPLITS)
        return f"{train} {self.noun} for training, {val} for validation, {test} for testing."

    @override
    def names(self, split: Split) -> list[str]:
        return [f"{split} image {index}" for index in range(len(self.dataset(split)))]

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        dataset = self.dataset("train")
        if len(dataset) < self.batch_size:
            raise ValueError(
                f"Expected `batch_size` to be at most the number of training images, "
                f"{len(dataset)}, but got {self.batch_size}."
            )
        sampler: DistributedSampler[Any] = DistributedSampler(
            dataset, *self._place, seed=self.seed, drop_last=True
        )
        return _ResumableLoader(
            dataset,
            data=self,
            batch_size=self._batch_size_per_process(),
            collate_fn=_unchanged,
            sampler=sampler,
            drop_last=True,
            **self._worker_options(),
        )

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("val")

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        dataset, (num_processes, _) = self.dataset(split), self._place
        if len(dataset) < num_processes:
            raise ValueError(
                f"Expected at least one {split} image for each of {num_processes} processes, "
                f"but got {len(dataset)}."
            )
        sampler = UnrepeatedDistributedSampler(dataset, *self._place, shuffle=False)
        return dataset.loader(
            self._batch_size_per_process(), sampler=sampler, **self._worker_options()
        )


class _ResumableLoader(DataLoader[Batch]):
    """A loader that begins behind what a resumed epoch has seen, as the trainer of `data` knows."""

    def __init__(self, dataset: ImageTensors, *, data: InMemoryDataModule, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.data = data

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        trainer, seen = self.data.trainer, 0
        if trainer is not None and trainer.training:
            seen = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        yield from islice(super().__iter__(), seen, None)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the trainer's progress, in each checkpoint, is enough."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Tell Lightning that an epoch may be resumed anywhere."""


def split_at_random(
    images: Tensor, labels: Tensor, sizes: dict[Split, int], *, seed: int
) -> dict[Split, ImageTensors]:
    """Split images at random into parts of the given sizes."""
    return {
        split: ImageTensors(images[part], labels[part])
        for split, part in random_positions(sizes, seed=seed).items()
    }


def random_positions(sizes: dict[Split, int], *, seed: int) -> dict[Split, Tensor]:
    """Divide the positions 0, 1, … at random among parts of the given sizes."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(sum(sizes.values()), generator=generator)
    return dict(zip(sizes, torch.split(order, list(sizes.values())), strict=True))


def raw_bytes(values: Tensor) -> memoryview:
    """Return the bytes of a tensor in its logical order, without a copy where possible."""
    return values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _served(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _unchanged(batch: Any) -> Any:
    return batch
