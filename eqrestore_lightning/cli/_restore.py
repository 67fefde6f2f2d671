"""The command `eqrestore restore`."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from eqrestore_lightning.motions import Element, Motion
    from eqrestore_lightning.transforms import RestoreTransform


def run(
    weights: str,
    images: Path,
    output: Path,
    min_margin: float = 0.0,
    prior: float | None = None,
    batch_size: int = 256,
) -> None:
    """Restore the images of a folder into another folder, and write a table of what was found.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        images: Folder of images, at any depth, of the size for which the weights were made.
        output: Folder to write to; it must be new or empty. Each image becomes a PNG file under its
            relative path; nothing is written unless every image can be read and has the right size.
            The table, shifts.csv, has one row per image. Its columns are what the weights find, and
            what was undone: "down" and "right" (how far the image was shifted, in pixels), "angle"
            (by how much it was rotated, in degrees, counter-clockwise), "mirrored" (1 if it was
            mirrored left to right, before it was turned), "quarters" (number of quarter turns,
            counter-clockwise); and "margin" (by how much the best candidate is more likely than
            the next one, in log-odds: the smaller, the less certain).
        min_margin: Leave images unchanged whose margin is smaller than this; their motion is
            written as 0.
        prior: Share of images that you expect not to have been moved, between 0 and 1: images are
            left unchanged unless their motion is more probable, given that share.
        batch_size: Number of images restored at a time.
    """
    from tqdm import tqdm

    from eqrestore_lightning.cli._device import default_device
    from eqrestore_lightning.data import find_images
    from eqrestore_lightning.transforms import RestoreTransform

    transform = RestoreTransform(weights, min_margin=min_margin, prior=prior).to(default_device())
    _check_arguments(transform, images, output, batch_size)
    files = find_images(images)
    if not files:
        raise FileNotFoundError(f"Expected images below {images}, but found none.")
    targets = [output / path.relative_to(images).with_suffix(".png") for path in files]
    _check_distinct(files, targets)
    for path in tqdm(files, desc="Checking"):
        _read(path, transform)
    output.mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    with tqdm(total=len(files), desc="Restoring") as progress:
        for batch in _batches(files, transform, batch_size):
            chosen = targets[len(rows) : len(rows) + len(batch)]
            names = [target.relative_to(output) for target in chosen]
            found = _restore_batch(batch, chosen, transform)
            rows += [[name, *row] for name, row in zip(names, found, strict=True)]
            progress.update(len(batch))
    header = ["file", *_columns(transform.estimator.motion), "margin"]
    with (output / "shifts.csv").open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        csv.writer(file).writerows([header, *rows])
    print(f"Restored {len(files)} images into {output}.")  # noqa: T201


def _restore_batch(
    batch: "Tensor", targets: Sequence[Path], transform: "RestoreTransform"
) -> list[list[str]]:
    """Write restored images; return the row of the table for each."""
    from torchvision.transforms.v2 import functional as TF

    found = transform.find(batch)
    for target, image in zip(targets, transform.undo(batch, found).cpu(), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        TF.to_pil_image(image).save(target)
    values = _values(found.motion, transform.estimator.motion)
    return [
        [*row, f"{margin:.4f}"] for row, margin in zip(values, found.margin.tolist(), strict=True)
    ]


def _columns(motion: "Motion") -> list[str]:
    """Return the names of the columns of a motion's elements."""
    return [name for field in motion.fields for name in field.columns or [field.name]]


def _values(element: "Element", motion: "Motion") -> list[list[str]]:
    """Return the entries of an element for each image, in the order of `_columns`."""
    rows = zip(
        *(element[field.name].reshape(-1, len(field.columns) or 1) for field in motion.fields),
        strict=True,
    )
    return [[f"{value:.15g}" for entry in row for value in entry.tolist()] for row in rows]


def _batches(
    files: Sequence[Path], transform: "RestoreTransform", batch_size: int
) -> Iterator["Tensor"]:
    """Read images in batches, in their order; those of a batch have one size."""
    import torch

    device = next(iter(transform.estimator.buffers())).device
    batch: list[Tensor] = []
    for path in files:
        image = _read(path, transform)
        if batch and (len(batch) == batch_size or image.shape != batch[0].shape):
            yield torch.stack(batch).to(device)
            batch = []
        batch.append(image)
    yield torch.stack(batch).to(device)


def _read(path: Path, transform: "RestoreTransform") -> "Tensor":
    from eqrestore_lightning.data import read_image

    estimator = transform.estimator
    image = read_image(path, grayscale=estimator.in_channels == 1)
    expected, size = estimator.spatial_size, tuple(image.shape[1:])
    if expected is not None and size != expected:
        raise ValueError(
            f"Expected images of {_product(expected)} pixels, for which the weights were made, "
            f"but got {_product(size)} in {path}."
        )
    try:
        estimator.check_input(image.unsqueeze(0))
        estimator.motion.check(size)
    except ValueError as error:
        raise ValueError(f"Expected {path} to fit the weights, but got: {error}") from error
    return image


def _product(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))


def _check_arguments(
    transform: "RestoreTransform", images: Path, output: Path, batch_size: int
) -> None:
    if batch_size < 1:
        raise ValueError(f"Expected `batch_size` to be at least 1, but got {batch_size}.")
    dims = transform.estimator.num_spatial_dims
    if dims != 2:
        raise ValueError(
            f"Expected weights for images, with two spatial axes, but these are for {dims}; "
            f"RestoreTransform in Python restores such data."
        )
    if not images.is_dir():
        raise FileNotFoundError(f"Expected a folder of images, but found none at {images}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"Expected `output` to be a new or empty folder, but got {output}.")


def _check_distinct(files: Sequence[Path], targets: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path, target in zip(files, targets, strict=True):
        if target in seen:
            raise ValueError(
                f"Expected images with different names, but {seen[target]} and {path} "
                f"would both become {target}."
            )
        seen[target] = path
