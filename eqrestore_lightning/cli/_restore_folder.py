"""Lightning's part of `eqrestore restore`: read, restore and write the images of a folder."""

import csv
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from eqrestore_lightning import __version__
from eqrestore_lightning.cli._image_writing import copy_image, write_image
from eqrestore_lightning.cli._quiet import under_lightning
from eqrestore_lightning.data._image_files import read_image, read_image_size
from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file
from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.training._launch import trainer_options
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights._digest import content_digest
from eqrestore_lightning.weights._files import estimator_config

TABLE, SKIPPED = "shifts.csv", "skipped.csv"
_PREFIX = ".unfinished-"
_SHOWN = 3  # files in a message
_SKIP = "`--skip_bad` leaves such files out."
_SKEW = timedelta(days=1)  # by which one process may be ahead of another

Batch: TypeAlias = tuple[int, list[tuple[Path, Tensor | str]]]
"""Its number, and files with their images, or why these cannot be restored."""

Row: TypeAlias = list[str]


@dataclass(frozen=True, eq=False)
class Job(Dataset[Batch]):
    """What is restored, and where to; as a data set, the batches of files that follow each other.

    Batches are the same for any number of processes, and after an interruption, so that what is
    written is the same. A batch is done when the file of its rows exists, in a hidden folder of the
    output that is named after all that determines what is written.

    Args:
        restore: What to restore images with.
        root: Folder of the images.
        files: The images, in order.
        output: Folder to write to.
        size: Height and width to resize images to, pixels; `None` to leave them as they are.
        same_format: Whether to keep the format of each file rather than write PNG.
        skip_bad: Whether to leave out images that cannot be restored, rather than to stop.
        batch_size: Number of files in a batch.
    """

    restore: RestoreTransform
    root: Path
    files: Sequence[Path]
    output: Path
    size: tuple[int, int] | None
    same_format: bool
    skip_bad: bool
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        return number, [(path, self._read(path)) for path in self._batch(number)]

    def _batch(self, number: int) -> Sequence[Path]:
        return self.files[number * self.batch_size : (number + 1) * self.batch_size]

    @cached_property
    def record(self) -> Path:
        """The hidden folder, which goes when all is done."""
        return self.output / f"{_PREFIX}{self._digest()}"

    def rows(self, number: int) -> Path:
        """Return the file that holds the rows of a batch that is done."""
        return self.record / f"{number:08}.json"

    def num_left(self) -> int:
        """Return the number of images that are not done."""
        left = (number for number in range(len(self)) if not self.rows(number).exists())
        return sum(len(self._batch(number)) for number in left)

    def target(self, path: Path) -> Path:
        """Return the name of what an image becomes, relative to the output folder."""
        name = path.relative_to(self.root)
        return name if self.same_format else name.with_suffix(".png")

    def check(self) -> None:
        """Check the output folder, the names and, unless bad ones are skipped, the headers.

        Raises:
            FileExistsError: If the folder holds anything but what this very job left unfinished.
            ValueError: If files would be written over each other, or images do not fit the weights.
        """
        self._check_output()
        self._check_targets()
        if self.skip_bad:
            return
        bad = [problem for path in self.files if (problem := self._problem(path)) is not None]
        if bad:
            more = f"{len(bad)} files cannot be restored. " if len(bad) > 1 else ""
            rest = f" (and {len(bad) - _SHOWN} more)" if len(bad) > _SHOWN else ""
            raise ValueError(f"{more}{' '.join(bad[:_SHOWN])}{rest} {_SKIP}")

    def _check_output(self) -> None:
        if self.output.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"Expected `output` to lie outside of {self.root}, but got the same.")
        found = [path.name for path in self.output.iterdir()] if self.output.exists() else []
        if found and self.record.name not in found and found != [".lock"]:
            begun = any(name.startswith(_PREFIX) for name in found)
            raise FileExistsError(
                f"Expected `output` to be a new or empty folder, or one that the same command left "
                f"unfinished, but {self.output} holds "
                + ("what other options, weights or images began." if begun else "other files.")
            )

    def _check_targets(self) -> None:
        seen: dict[Path, Path] = {}
        for path in self.files:
            name = self.target(path)
            if name in seen or name.parts[0] in (TABLE, SKIPPED):
                other = seen.get(name, Path(name.parts[0]))
                raise ValueError(
                    f"Expected images with different names, but {other} and {path} "
                    f"would both become {name}."
                )
            seen[name] = path
        for folder in {parent for name in seen for parent in name.parents}:
            if folder in seen:
                raise ValueError(f"Expected {folder} to be a file or a folder, but it is both.")

    def _read(self, path: Path) -> Tensor | str:
        grayscale = self.restore.estimator.in_channels == 1
        try:
            image = read_image(path, grayscale=grayscale, image_size=self.size)
            self._check_fits(path, tuple(image.shape[1:]))
        except (OSError, ValueError) as error:
            return " ".join(str(error).split())
        return image

    def _problem(self, path: Path) -> str | None:
        """Return why an image cannot be restored, as far as its header tells."""
        try:
            self._check_fits(path, self.size or read_image_size(path))
        except (OSError, ValueError) as error:
            return " ".join(str(error).split())
        return None

    def _check_fits(self, path: Path, size: tuple[int, ...]) -> None:
        estimator = self.restore.estimator
        expected = estimator.spatial_size
        if expected is not None and size != expected:
            wanted, found = (" × ".join(map(str, each)) for each in (expected, size))
            raise ValueError(
                f"Expected images of {wanted} pixels (height × width), for which the weights were "
                f"made, but got {found} in {path}; "
                f'`--resize "{expected[0]} {expected[1]}"` resizes them.'
            )
        channels = 1 if estimator.in_channels == 1 else 3
        try:
            estimator.check_input(torch.zeros((), dtype=torch.uint8).expand(1, channels, *size))
            estimator.motion.check(size)
        except ValueError as error:
            raise ValueError(f"Expected {path} to fit the weights, but got: {error}") from error

    def _digest(self) -> str:
        restore, sha = self.restore, hashlib.sha256(__version__.encode())
        config = json.loads(json.dumps(estimator_config(restore.estimator)))
        weights = content_digest(config, restore.estimator.state_dict())
        options = (restore.min_margin, restore.prior, self.size, self.same_format, self.batch_size)
        sha.update(f"{weights} {options}".encode())
        for path in self.files:
            found = path.stat()
            name = os.fsencode(path.relative_to(self.root))
            sha.update(b"%s\0%d\0%d\0" % (name, found.st_size, found.st_mtime_ns))
        return sha.hexdigest()[:16]


def restore_folder(job: Job, *, device: str, devices: int | None, num_workers: int | None) -> None:
    """Restore what is left of a job, in one process or several, and merge the table in the end."""
    if num_workers is None:
        num_workers = 0 if device == "cpu" else min(4, os.cpu_count() or 1)
    options = trainer_options(device=device, devices=devices)
    options.pop("precision", None)  # scores are exact
    if options.get("strategy") == "ddp":
        options["strategy"] = DDPStrategy(timeout=_SKEW)
    bar = tqdm(desc="Restoring", unit=" images", disable=None, leave=False)
    with under_lightning("the same command goes on"), bar:
        trainer = lightning.Trainer(
            callbacks=[ImageWriter(job, bar)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # each process takes its share of the batches
            **options,
        )
        with _only_run(job) if trainer.is_global_zero else nullcontext():
            if not trainer.is_global_zero:
                bar.disable = True
            bar.reset(-(-job.num_left() // trainer.world_size))
            trainer.predict(RestoreImages(job, num_workers), return_predictions=False)


@contextmanager
def _only_run(job: Job) -> Iterator[None]:
    """Begin or go on with a job, and keep other runs away meanwhile."""
    job.record.mkdir(parents=True, exist_ok=True)
    try:
        with only_process(job.output):
            remove_parts(job.output)  # of files that a killed process was writing
            left = job.num_left()
            if left < len(job.files):
                print(f"Going on: {left} of {len(job.files)} images are left.")  # noqa: T201
            yield
    finally:
        for folder in (job.record, job.output):  # where nothing could be done
            with suppress(OSError):
                folder.rmdir()


class RestoreImages(lightning.LightningModule):
    """Restore batches of images, and say what was found, as rows of a table.

    Args:
        job: What to restore.
        num_workers: Processes that read images ahead.
    """

    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(self, job: Job, num_workers: int) -> None:
        super().__init__()
        self.restore = job.restore
        self.job, self.num_workers = job, num_workers

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of this process's share of the batches that are not done."""
        share = range(self.trainer.global_rank, len(self.job), self.trainer.world_size)
        left = [number for number in share if not self.job.rows(number).exists()]
        return DataLoader(
            self.job,
            batch_size=None,
            sampler=left,
            num_workers=self.num_workers,
            collate_fn=_unchanged,
        )

    def predict_step(self, batch: Batch, batch_idx: int) -> list[tuple[Tensor, Row]]:
        """Restore the images of a batch that could be read; those of one size at a time."""
        del batch_idx
        images = [image for _, image in batch[1] if isinstance(image, Tensor)]
        restored: list[tuple[Tensor, Row]] = []
        for _, group in itertools.groupby(images, lambda image: image.shape):
            x = torch.stack(list(group))
            found = self.restore.find(x)
            values = _values(found.motion, self.restore.estimator.motion)
            rows = [
                [*row, f"{margin:.4f}"]
                for row, margin in zip(values, found.margin.tolist(), strict=True)
            ]
            restored += zip(self.restore.undo(x, found), rows, strict=True)
        return restored


class ImageWriter(BasePredictionWriter):
    """Write restored images, each file whole or not at all, and in the end the table.

    Args:
        job: What is restored.
        bar: Counts images.
    """

    def __init__(self, job: Job, bar: tqdm) -> None:
        super().__init__("batch")
        self.job, self.bar = job, bar

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: list[tuple[Tensor, Row]],
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the images of a batch, then their rows, after which it is done."""
        del trainer, pl_module, batch_indices, batch_idx, dataloader_idx
        job, (number, files) = self.job, batch
        restored, rows, skipped = iter(prediction), [], []
        bad = [image for _, image in files if isinstance(image, str)]
        if bad and not job.skip_bad:
            raise ValueError(f"{bad[0]} {_SKIP}")
        for path, image in files:
            if isinstance(image, str):
                skipped.append([str(path.relative_to(job.root)), image])
                continue
            result, row = next(restored)
            name = job.target(path)
            if job.same_format and job.size is None and torch.equal(result, image):
                copy_image(path, job.output / name)
            else:
                write_image(job.output / name, result.cpu(), source=path)
            rows.append([str(name), *row])
        with whole_file(job.rows(number)) as part:
            part.write_text(json.dumps({"rows": rows, "skipped": skipped}), encoding="utf-8")
        self.bar.update(len(files))

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Wait for all processes, then merge their rows and remove the record."""
        del pl_module, stage
        self.bar.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            print(_merge(self.job))  # noqa: T201


def _merge(job: Job) -> str:
    """Write the tables in the order of the files, remove the record, and say what was done."""
    parts = [json.loads(job.rows(number).read_bytes()) for number in range(len(job))]
    rows, skipped = ([row for part in parts for row in part[name]] for name in ("rows", "skipped"))
    if not rows:
        raise ValueError(f"Expected at least one image to be good. {skipped[0][1]}")
    if skipped:
        _write_table(job.output / SKIPPED, ["file", "reason"], skipped)
    motion = job.restore.estimator.motion
    columns = [name for field in motion.fields for name in field.columns or (field.name,)]
    _write_table(job.output / TABLE, ["file", *columns, "margin"], rows)
    shutil.rmtree(job.record)
    told = f"Restored {len(rows)} images into {job.output}."
    if skipped:
        told += f" Skipped: {len(skipped)}, see {SKIPPED}."
    if job.same_format:
        told += " JPEG files that were moved were compressed again (quality 95)."
    return told


def _write_table(path: Path, header: Row, rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all; names of files are written as they are on disk."""
    with (
        whole_file(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


def _values(element: Element, motion: Motion) -> Iterator[Row]:
    """Yield the entries of an element for each image, in the order of the columns."""
    fields = (element[each.name].reshape(-1, len(each.columns) or 1) for each in motion.fields)
    for row in zip(*fields, strict=True):
        yield [f"{value:.15g}" for entry in row for value in entry.tolist()]


def _unchanged(batch: Any) -> Any:
    return batch
