"""The base of all data modules: recorded settings, and the same batches for any launch."""

import json
import os
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeAlias, TypedDict

import lightning
from torch import Tensor
from torch.utils.data import Dataset

Batch: TypeAlias = tuple[Tensor, Tensor]
Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class LoaderOptions(TypedDict, total=False):
    """Options that every data module takes: see `DataModule`."""

    batch_size: int
    seed: int
    num_workers: int


class DataModule(lightning.LightningDataModule, ABC):
    """Base of all data modules, whose batches are described at `InMemoryDataModule`.

    The arguments of the constructor, those of subclasses included, become hyper-parameters
    (`hparams`, and `datamodule_hyper_parameters` in checkpoints) of plain JSON types: a path
    becomes a string, and any other object the name of its function or class.
    """

    in_channels: int
    num_classes: int
    spatial_size: tuple[int, ...] | None
    noun = "images"  # what they are called in messages

    def __init__(self, *, batch_size: int = 256, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"Expected `batch_size` to be at least 1, but got {batch_size}.")
        self.save_hyperparameters(logger=False)  # its `seed` may differ from the module's
        self.hparams.update(json.loads(json.dumps(dict(self.hparams), default=_name)))
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers

    @property
    def settings(self) -> dict[str, Any]:
        """What this data module was built from: `kind`, its class, and its hyper-parameters."""
        return {"kind": type(self).__name__, **self.hparams}

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Batch]:
        """Return the images and labels of a split, reading them if needed."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change if the images, labels or splits do."""

    @abstractmethod
    def describe_split(self) -> str:
        """Return a sentence about which images are for training, validation and test."""

    @abstractmethod
    def names(self, split: Split) -> list[str]:
        """Return a name for each image of a split: the path of its file, if it has one."""

    def sources(self, split: Split) -> list[str]:
        """Return the source of each image of a split; by default, each image is its own."""
        return self.names(split)

    @property
    def _place(self) -> tuple[int, int]:
        """Number of processes, and the index of this one."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def _batch_size_per_process(self) -> int:
        num_processes, _ = self._place
        if self.batch_size % num_processes:
            raise ValueError(
                f"Expected `batch_size` to be a multiple of the number of processes, "
                f"{num_processes}, but got {self.batch_size}."
            )
        return self.batch_size // num_processes

    def _worker_options(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}


def check_split(split: str) -> None:
    """Refuse what is none of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"Expected `split` to be one of {SPLITS}, but got {split!r}.")


def _name(value: Any) -> str:
    """Return a path as text, and the name of the function or class of any other object."""
    if isinstance(value, os.PathLike):
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
