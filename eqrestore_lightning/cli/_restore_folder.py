"""Lightning's part of `eqrestore restore`: read, restore and write the images of a folder."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import lightning
import torch
import torch.distributed
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from eqrestore_lightning.cli._restore_files import (
    ImageFiles,
    Problems,
    Read,
    summary,
    write_image,
)
from eqrestore_lightning.cli._unfinished import UnfinishedRun
from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.transforms import RestoreTransform

Batch: TypeAlias = list[Tensor] | Exception
Restored: TypeAlias = tuple[list[Tensor], list[list[str]]]

_NOISE = (  # Lightning's warnings
    ".*LeafSpec",
    ".*does not have many workers",
    "Consider setting `persistent_workers=True`",
    "Total length of `DataLoader`",  # is zero, where all is done
)


class ImageFilesDataModule(lightning.LightningDataModule):
    """Serve the images that are left to be restored, each in one process, in batches.

    Batches are the same for any number of processes, and after an interruption, so that the
    restored images are too: each holds `batch_size` files that follow each other.

    Args:
        images: What to restore.
        run: The record of the run.
        root: The folder that holds the images.
        batch_size: Number of images in a batch.
        num_workers: Processes that read images, for each process that restores them; 0 for none.
        skip_bad: Whether to leave out images that cannot be restored, rather than to stop.
    """

    def __init__(
        self,
        images: ImageFiles,
        run: UnfinishedRun,
        root: Path,
        *,
        batch_size: int,
        num_workers: int,
        skip_bad: bool,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.images, self.run, self.root = images, run, root
        self.batch_size, self.num_workers, self.skip_bad = batch_size, num_workers, skip_bad

    @property
    def num_batches(self) -> int:
        """Number of batches of the whole run."""
        return -(-len(self.images) // self.batch_size)

    def setup(self, stage: str) -> None:
        """Check all images, unless they have been; then begin, or go on with, the run."""
        del stage
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        _end_with_parent()
        tqdm.set_lock(threading.RLock())  # one for all processes would be missed if they are killed
        trainer = self._trainer
        skipped: list[tuple[str, str]] = []
        if not trainer.strategy.broadcast(self.run.is_found()):
            skipped = self._check()
        if trainer.is_global_zero:
            self.run.begin(skipped)
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            self.run.join()
        names = {name for name, _ in self.run.skipped}
        kept = [path for path in self.images.files if self.relative(path) not in names]
        self.images = ImageFiles(kept, self.images.estimator, self.images.size)
        self.done = {} if self.run.is_complete else self.run.done()
        if trainer.is_global_zero and self.done:
            print(f"Going on: {len(self.done)} of {self.num_batches} batches are done.")  # noqa: T201

    def predict_dataloader(self) -> DataLoader[Read]:
        """Return a loader of this process's share of the batches that are left."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning would not end for it
        left = [] if self.run.is_complete else range(self.num_batches)
        numbers = [number for number in left if number not in self.done]
        share = numbers[self._trainer.global_rank :: self._trainer.world_size]
        size = self.batch_size
        positions = [
            position
            for number in share
            for position in range(number * size, min((number + 1) * size, len(self.images)))
        ]
        self.num_left = len(positions)
        return DataLoader(
            self.images,
            batch_size=size,
            sampler=positions,
            num_workers=self.num_workers,
            collate_fn=_stack_equal_sizes,
        )

    def relative(self, path: Path) -> str:
        """Return the name of a file, relative to the folder."""
        return str(path.relative_to(self.root))

    @property
    def _trainer(self) -> lightning.Trainer:
        assert self.trainer is not None  # in every hook  # noqa: S101
        return self.trainer

    def _check(self) -> list[tuple[str, str]]:
        """Read every image, in all processes together, and return those to skip, and why."""
        rank, count = self._trainer.global_rank, self._trainer.world_size
        share = range(rank, len(self.images), count)
        reasons = DataLoader(
            Problems(self.images, share),
            batch_size=None,
            num_workers=self.num_workers,
        )
        bar = tqdm(reasons, desc="Checking", disable=rank > 0)
        problems = [
            (position, reason) for position, reason in zip(share, bar, strict=True) if reason
        ]
        if count > 1:
            parts: list[Any] = [None] * count
            torch.distributed.all_gather_object(parts, problems)
            problems = sorted(problem for part in parts for problem in part)
        if problems and not self.skip_bad:
            raise ValueError(summary([reason for _, reason in problems]))
        if problems and len(problems) == len(self.images):
            raise ValueError(f"Expected at least one image to be good. {problems[0][1]}")
        files = self.images.files
        return [(self.relative(files[position]), reason) for position, reason in problems]


class RestoreImages(lightning.LightningModule):
    """Restore batches of images, and say what was found, as rows of a table.

    Args:
        restore: What to restore them with.
    """

    def __init__(self, restore: RestoreTransform) -> None:
        super().__init__()
        self.restore = restore

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        motion = self.restore.estimator.motion
        names = [name for field in motion.fields for name in field.columns or [field.name]]
        return [*names, "margin"]

    def predict_step(self, batch: Batch, batch_idx: int) -> Restored:
        """Return the restored images, on the CPU, and a row for each."""
        del batch_idx
        if isinstance(batch, Exception):
            raise batch
        restored: list[Tensor] = []
        rows: list[list[str]] = []
        for images in batch:
            found = self.restore.find(images)
            restored += self.restore.undo(images, found).cpu()
            values = _values(found.motion, self.restore.estimator.motion)
            margins = found.margin.tolist()
            rows += [[*row, f"{margin:.4f}"] for row, margin in zip(values, margins, strict=True)]
        return restored, rows


class ImageWriter(BasePredictionWriter):
    """Write restored images, each file whole or not at all, and in the end the table.

    Args:
        data: Where they come from.
        same_format: Whether to keep the format of each file rather than write PNG.
    """

    def __init__(self, data: ImageFilesDataModule, *, same_format: bool) -> None:
        super().__init__("batch")
        self.data, self.same_format = data, same_format
        self._bar: tqdm | None = None

    def target(self, path: Path) -> Path:
        """Return the name of what an image becomes, relative to the output folder."""
        name = path.relative_to(self.data.root)
        return name if self.same_format else name.with_suffix(".png")

    def on_predict_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Show a bar."""
        del pl_module
        share = f" (process 1 of {trainer.world_size})" if trainer.world_size > 1 else ""
        total, hidden = self.data.num_left, not trainer.is_global_zero
        self._bar = tqdm(total=total, desc=f"Restoring{share}", disable=hidden)

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Restored,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the images of a batch, then keep their rows."""
        del pl_module, batch, batch_idx, dataloader_idx
        positions = batch_indices or ()
        data, (restored, rows) = self.data, prediction
        names = [self.target(data.images.files[position]) for position in positions]
        for name, image in zip(names, restored, strict=True):
            write_image(data.run.output / name, image)
        named = [[str(name), *row] for name, row in zip(names, rows, strict=True)]
        data.run.record(trainer.global_rank, positions[0] // data.batch_size, named)
        assert self._bar is not None  # since the start  # noqa: S101
        self._bar.update(len(named))

    def on_predict_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Take leave of the bar."""
        del trainer, pl_module
        self._close_bar()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Take leave of the bar, so that the message comes last."""
        del trainer, pl_module, exception
        self._close_bar()

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Wait for all processes, then write the table and remove the record."""
        del stage
        assert isinstance(pl_module, RestoreImages)  # noqa: S101
        trainer.strategy.barrier()
        data = self.data
        if trainer.is_global_zero:
            data.run.finish(["file", *pl_module.columns], data.num_batches)
            print(_conclusion(data, self))  # noqa: T201
        data.run.close()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, or it would go on without the rest.

    Torch asks the system for a SIGINT then, which processes in the background of a shell ignore.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _stack_equal_sizes(images: list[Read]) -> Batch:
    """Stack images that follow each other and have one size; an error takes the place of all."""
    groups: list[list[Tensor]] = []
    for image in images:
        if isinstance(image, Exception):
            return image
        if not groups or groups[-1][0].shape != image.shape:
            groups.append([])
        groups[-1].append(image)
    return [torch.stack(group) for group in groups]


def _values(element: Element, motion: Motion) -> list[list[str]]:
    """Return the entries of an element for each image, in the order of the columns."""
    rows = zip(
        *(element[field.name].reshape(-1, len(field.columns) or 1) for field in motion.fields),
        strict=True,
    )
    return [[f"{value:.15g}" for entry in row for value in entry.tolist()] for row in rows]


def _conclusion(data: ImageFilesDataModule, writer: ImageWriter) -> str:
    run, kinds = data.run, {writer.target(path).suffix.lower() for path in data.images.files}
    told = f"Restored {len(data.images)} images into {run.output}."
    if run.skipped:
        count = len(run.skipped)
        noun = "file was" if count == 1 else "files were"
        told += f" {count} {noun} skipped, see skipped.csv."
    if kinds & {".jpg", ".jpeg"}:
        told += " JPEG files were compressed again (quality 95), which changes pixels slightly."
    return told
