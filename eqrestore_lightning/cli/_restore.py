"""The command `eqrestore restore`."""

from pathlib import Path
from typing import Literal, TypeAlias

from eqrestore_lightning.cli._device import Device, choose_device

Format: TypeAlias = Literal["png", "same"]


def run(
    weights: str,
    images: Path,
    output: Path,
    min_margin: float = 0.0,
    prior: float | None = None,
    resize: bool = False,
    format: Format = "png",  # noqa: A002  # the name of the option
    skip_bad: bool = False,
    batch_size: int = 64,
    device: Device = "auto",
    devices: int | None = None,
) -> None:
    """Restore the images of a folder into another folder, and write a table of what was found.

    Work that was interrupted, by Ctrl-C, a full disk or otherwise, is gone on with by the same
    command, on any number of devices, and ends with the same files.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        images: Folder of images, at any depth, of the size for which the weights were made.
        output: Folder to write to; it must be new or empty, or what the same command left when it
            was interrupted. Each image becomes a PNG file under its relative path, with its color
            profile and EXIF data. The table, shifts.csv, has one row per image. Its columns are
            what the weights find, and what was undone: "down" and "right" (how far the image was
            shifted, in pixels), "angle" (by how much it was rotated, in degrees,
            counter-clockwise), "mirrored" (1 if it was mirrored left to right, before it was
            turned), "quarters" (number of quarter turns, counter-clockwise); and "margin" (by how
            much the best candidate is more likely than the next one, in log-odds: the smaller, the
            less certain).
        min_margin: Leave images unchanged whose margin is smaller than this; their motion is
            written as 0.
        prior: Share of images that you expect not to have been moved, between 0 and 1: images are
            left unchanged unless their motion is more probable, given that share.
        resize: Whether to resize images to the size for which the weights were made: in proportion,
            until they just cover it, and their center is kept.
        format: "png", which keeps every pixel, or "same" for the format that each file has; images
            that were not moved are then copied, and moved JPEG files compressed again (quality 95),
            which changes pixels slightly.
        skip_bad: Whether to go on without files that cannot be read or do not fit the weights, and
            list them in skipped.csv, instead of stopping.
        batch_size: Number of images restored at a time; what was interrupted goes on after the last
            full batch.
        device: Where to compute; "auto" is a GPU ("cuda") if there is one, or else the CPU.
        devices: Number of GPUs of this machine to share the work, or of processes on its CPU; by
            default 1, or what a launcher such as torchrun started, on one machine or several.
    """
    from eqrestore_lightning.cli._checks import (
        check_at_least,
        check_is_for_images,
        check_output_folder,
    )
    from eqrestore_lightning.cli._restore_folder import restore_folder
    from eqrestore_lightning.cli._restore_job import Job
    from eqrestore_lightning.data._image_files import find_images
    from eqrestore_lightning.transforms import RestoreTransform

    check_at_least(1, batch_size=batch_size, devices=devices)
    check_output_folder(output)
    device = choose_device(device)  # type: ignore[assignment]  # one of its own values
    restore = RestoreTransform(weights, min_margin=min_margin, prior=prior)
    check_is_for_images(restore.estimator)
    if resize and restore.estimator.spatial_size is None:
        raise ValueError("Expected no `resize` with weights for images of any size, as these are.")
    job = Job(
        restore,
        images,
        find_images(images),
        output,
        resize=resize,
        same_format=format == "same",
        skip_bad=skip_bad,
        batch_size=batch_size,
    )
    job.check()
    restore_folder(job, device=device, devices=devices)
