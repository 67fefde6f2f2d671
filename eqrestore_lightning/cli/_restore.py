"""The command `eqrestore restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from eqrestore_lightning.cli._device import Device, choose_device

if TYPE_CHECKING:
    from eqrestore_lightning.transforms import RestoreTransform

Format: TypeAlias = Literal["png", "same"]


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
        resize: Height and width to resize images to, in pixels, as "24 48", or one number for a
            square: an image is resized, in proportion, until it just covers that size, and its
            center is kept. By default nothing is resized.
        format: "png", which keeps every pixel, or "same" for the format that each file has; images
            that were not moved are then copied, and moved JPEG files compressed again (quality 95),
            which changes pixels slightly.
        skip_bad: Whether to go on without files that cannot be read or do not fit the weights, and
            list them in skipped.csv, instead of stopping.
        batch_size: Number of images restored at a time; what was interrupted goes on after the last
            full batch.
        num_workers: Processes that read images ahead, for each device; by default none on a CPU,
            and up to 4 on a GPU.
        device: Where to compute; "auto" is a GPU ("cuda") if there is one, or else the CPU.
        devices: Number of GPUs of this machine to share the work, or of processes on its CPU; by
            default 1, or what a launcher such as torchrun started, on one machine or several.
    """
    from eqrestore_lightning.cli._checks import check_at_least, check_output_folder
    from eqrestore_lightning.cli._restore_folder import Job, restore_folder
    from eqrestore_lightning.data._image_files import find_images
    from eqrestore_lightning.transforms import RestoreTransform

    check_at_least(1, batch_size=batch_size)
    check_at_least(0, num_workers=num_workers)
    check_output_folder(output)
    device = choose_device(device)  # type: ignore[assignment]  # one of its own values
    restore = RestoreTransform(weights, min_margin=min_margin, prior=prior)
    _check_is_for_images(restore)
    files = find_images(images)
    job = Job(
        restore,
        images,
        files,
        output,
        size=_size(resize, restore.estimator.spatial_size),
        same_format=format == "same",
        skip_bad=skip_bad,
        batch_size=batch_size,
    )
    job.check()
    restore_folder(job, device=device, devices=devices, num_workers=num_workers)


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


def _check_is_for_images(restore: "RestoreTransform") -> None:
    dims = restore.estimator.num_spatial_dims
    if dims != 2:
        raise ValueError(
            f"Expected weights for images, with two spatial axes, but these are for {dims}; "
            f"RestoreTransform in Python restores such data."
        )
