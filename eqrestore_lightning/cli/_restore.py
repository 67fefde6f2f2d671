"""The command `eqrestore restore`."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from eqrestore_lightning.cli._device import Device, choose_device

if TYPE_CHECKING:
    import lightning

    from eqrestore_lightning.transforms import RestoreTransform

Format: TypeAlias = Literal["png", "same"]

_GOES_ON = "the same command goes on"
_SKEW = timedelta(days=1)  # by which one process may be ahead of another


def run(
    weights: str,
    images: Path,
    output: Path,
    min_margin: float = 0.0,
    prior: float | None = None,
    resize: str | None = None,
    format: Format = "png",  # noqa: A002  # the name of the option
    skip_bad: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    device: Device = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
) -> None:
    """Restore the images of a folder into another folder, and write a table of what was found.

    Work that was interrupted, by Ctrl-C, a full disk or otherwise, is gone on with by the same
    command, and ends with the same files.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        images: Folder of images, at any depth, of the size for which the weights were made.
        output: Folder to write to; it must be new or empty, or what the same command left when it
            was interrupted. Each image becomes a PNG file under its relative path; nothing is
            written unless every image can be read and has the right size. The table, shifts.csv,
            has one row per image. Its columns are what the weights find, and what was undone:
            "down" and "right" (how far the image was shifted, in pixels), "angle" (by how much it
            was rotated, in degrees, counter-clockwise), "mirrored" (1 if it was mirrored left to
            right, before it was turned), "quarters" (number of quarter turns, counter-clockwise);
            and "margin" (by how much the best candidate is more likely than the next one, in
            log-odds: the smaller, the less certain).
        min_margin: Leave images unchanged whose margin is smaller than this; their motion is
            written as 0.
        prior: Share of images that you expect not to have been moved, between 0 and 1: images are
            left unchanged unless their motion is more probable, given that share.
        resize: Height and width to resize images to, in pixels, as "24 48", or one number for a
            square: an image is resized, in proportion, until it just covers that size, and its
            center is kept. By default nothing is resized.
        format: "png", which keeps every pixel, or "same" for the format that each file has; JPEG
            files are then compressed again (quality 95), which changes pixels slightly.
        skip_bad: Whether to go on without files that cannot be read or do not fit the weights, and
            list them in skipped.csv, instead of stopping before anything is written.
        batch_size: Number of images restored at a time; what was interrupted goes on after the last
            full batch.
        num_workers: Processes that read images ahead, for each device; by default none on a CPU,
            and up to 4 on a GPU.
        device: Where to compute; "auto" is a GPU ("cuda") if there is one, or else the CPU.
        devices: Number of GPUs of this machine to share the work, or of processes on its CPU; by
            default 1, or what a launcher such as torchrun started.
        num_nodes: Number of machines to share the work, on a file system that they have in common:
            the same command is started on each, by a launcher or by hand with the variables
            MASTER_ADDR, MASTER_PORT and NODE_RANK (0, 1, …).
    """
    from eqrestore_lightning.cli._errors import as_user_errors
    from eqrestore_lightning.cli._restore_files import ImageFiles
    from eqrestore_lightning.cli._restore_folder import (
        ImageFilesDataModule,
        ImageWriter,
        RestoreImages,
    )
    from eqrestore_lightning.cli._unfinished import UnfinishedRun, check_output
    from eqrestore_lightning.transforms import RestoreTransform

    device = choose_device(device)  # type: ignore[assignment]  # one of its own values
    restore = RestoreTransform(weights, min_margin=min_margin, prior=prior)
    size = _size(resize, restore.estimator.spatial_size)
    _check_arguments(restore, batch_size)
    check_output(output)
    files = _find(images)
    settings = {
        **_weights_settings(restore),
        **_images_settings(images, files),
        "min_margin": min_margin,
        "prior": prior,
        "resize": size and list(size),
        "format": format,
        "skip_bad": skip_bad,
        "batch_size": batch_size,
        "device": device,
    }
    unfinished = UnfinishedRun(output, settings)
    data = ImageFilesDataModule(
        ImageFiles(files, restore.estimator, size),
        unfinished,
        images,
        batch_size=batch_size,
        num_workers=_num_workers(num_workers, device),
        skip_bad=skip_bad,
    )
    writer = ImageWriter(data, same_format=format == "same")
    _check_distinct(files, writer.target)
    unfinished.is_found()  # refuses other runs before Lightning starts
    with as_user_errors(lambda: _GOES_ON), warnings.catch_warnings():
        trainer = _trainer(writer, device, devices, num_nodes)
        try:
            trainer.predict(RestoreImages(restore), datamodule=data, return_predictions=False)
        finally:
            unfinished.close()


def _trainer(
    writer: "lightning.Callback", device: str, devices: int | None, num_nodes: int | None
) -> "lightning.Trainer":
    import logging

    import lightning
    from lightning.pytorch.strategies import DDPStrategy

    from eqrestore_lightning.training import trainer_options

    options = trainer_options(device=device, devices=devices, num_nodes=num_nodes)
    options.pop("precision", None)  # scores are exact
    if options.pop("strategy", None):
        method: Literal["popen", "spawn"] = "popen" if _is_launched() else "spawn"
        if method == "spawn" and options["num_nodes"] > 1:
            _check_addresses()
        options["strategy"] = DDPStrategy(start_method=method, timeout=_SKEW)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # the bar is enough
    return lightning.Trainer(
        callbacks=[writer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the data module gives each process its share
        **options,
    )


def _is_launched() -> bool:
    """Return whether a launcher has started a process for each device."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    return "LOCAL_RANK" in os.environ or SLURMEnvironment.detect()


def _check_addresses() -> None:
    missing = [
        name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"Expected a launcher, or the variables MASTER_ADDR, MASTER_PORT and NODE_RANK, to say "
            f"which of the machines this is (`num_nodes` above 1), but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing."
        )


def _num_workers(given: int | None, device: str) -> int:
    if given is not None and given < 0:
        raise ValueError(f"Expected `num_workers` to be at least 0, but got {given}.")
    if given is None:
        return 0 if device == "cpu" else min(4, os.cpu_count() or 1)
    return given


def _size(resize: str | None, expected: tuple[int, ...] | None) -> tuple[int, int] | None:
    """Return height and width that an option names, if the weights take them."""
    if resize is None:
        return None
    numbers = resize.strip("[]()").replace(",", " ").split()
    if not (1 <= len(numbers) <= 2 and all(number.isdecimal() for number in numbers)):
        raise ValueError(
            f"Expected `resize` to be a number of pixels, or height and width as '24 48', "
            f"but got {resize!r}."
        )
    size = (int(numbers[0]), int(numbers[-1]))
    if min(size) < 1 or size != (expected or size):
        wanted = f"be {expected[0]} {expected[-1]}" if expected else "be at least 1"
        raise ValueError(
            f"Expected `resize` to {wanted} (height and width), for which the weights were made, "
            f"but got {resize!r}."
        )
    return size


def _find(images: Path) -> list[Path]:
    from eqrestore_lightning.data import find_images

    if not images.is_dir():
        raise FileNotFoundError(f"Expected a folder of images, but found none at {images}.")
    files = find_images(images)
    if not files:
        raise FileNotFoundError(f"Expected images below {images}, but found none.")
    return files


def _weights_settings(restore: "RestoreTransform") -> dict[str, Any]:
    from eqrestore_lightning import __version__
    from eqrestore_lightning.weights import content_digest, estimator_config

    estimator = restore.estimator
    notes = json.loads(json.dumps(estimator_config(estimator)))
    return {
        "version": __version__,
        "weights digest": content_digest(notes, estimator.state_dict()),
    }


def _images_settings(images: Path, files: Sequence[Path]) -> dict[str, Any]:
    from eqrestore_lightning.cli._unfinished import digest_of_files

    return {"images digest": digest_of_files(images, files)}


def _check_arguments(restore: "RestoreTransform", batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"Expected `batch_size` to be at least 1, but got {batch_size}.")
    dims = restore.estimator.num_spatial_dims
    if dims != 2:
        raise ValueError(
            f"Expected weights for images, with two spatial axes, but these are for {dims}; "
            f"RestoreTransform in Python restores such data."
        )


def _check_distinct(files: Sequence[Path], target: Callable[[Path], Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in files:
        name = target(path)
        if name in seen:
            raise ValueError(
                f"Expected images with different names, but {seen[name]} and {path} "
                f"would both become {name}."
            )
        seen[name] = path
