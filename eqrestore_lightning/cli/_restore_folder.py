"""Lightning's part of `eqrestore restore`: read, restore and write the images of a folder."""

import csv
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from typing_extensions import override

from eqrestore_lightning.cli._image_writing import copy_image, write_image
from eqrestore_lightning.cli._quiet import under_lightning
from eqrestore_lightning.cli._restore_job import SKIP, SKIPPED, TABLE, Batch, Job
from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file
from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.training._launch import trainer_options

_SKEW = timedelta(days=1)  # by which one process may be ahead of another

Row: TypeAlias = list[str]


def restore_folder(job: Job, *, device: str, devices: int | None) -> None:
    """Restore what is left of a job, in one process or several, and merge the table in the end."""
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
            trainer.predict(RestoreImages(job), return_predictions=False)


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
    """Restore batches of images, and say what was found, as rows of a table."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.job, self.restore = job, job.restore

    @override
    def predict_dataloader(self) -> DataLoader[Batch]:
        share = range(self.trainer.global_rank, len(self.job), self.trainer.world_size)
        left = [number for number in share if not self.job.rows(number).exists()]
        num_workers = 0 if self.device.type == "cpu" else min(4, os.cpu_count() or 1)
        return DataLoader(self.job, batch_size=None, sampler=left, num_workers=num_workers)

    @override
    def predict_step(self, batch: Batch, batch_idx: int) -> list[tuple[Tensor, Row]]:
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
    """Write restored images, each file whole or not at all, and in the end the table."""

    def __init__(self, job: Job, bar: tqdm) -> None:
        super().__init__("batch")
        self.job, self.bar = job, bar

    @override
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
        job, (number, files) = self.job, batch
        restored, rows, skipped = iter(prediction), [], []
        bad = [image for _, image in files if isinstance(image, str)]
        if bad and not job.skip_bad:
            raise ValueError(f"{bad[0]} {SKIP}")
        for path, image in files:
            if isinstance(image, str):
                skipped.append([str(path.relative_to(job.root)), image])
                continue
            result, row = next(restored)
            name = job.target(path)
            if job.same_format and not job.resize and torch.equal(result, image):
                copy_image(path, job.output / name)
            else:
                write_image(job.output / name, result.cpu(), source=path)
            rows.append([str(name), *row])
        with whole_file(job.rows(number)) as part:  # after which the batch is done
            part.write_text(json.dumps({"rows": rows, "skipped": skipped}), encoding="utf-8")
        self.bar.update(len(files))

    @override
    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
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
