"""Restore every shift of 1,000 MNIST images exactly, without training: Theorem 4.5 as running code.

Checks that MNIST's 60,000 training images are aperiodic, computes the estimator of the first 1,000
(8 bit, 18 layers), saves and loads it, and restores all 1,024 circular shifts of each image.

    python recipes/constructed.py --data data

Takes 26 minutes on one core (Intel Xeon).
"""

import time
from pathlib import Path

import torch
from _run import DATA, Run, command_line
from torch import Tensor
from tqdm import tqdm

from eqrestore_lightning import MNISTDataModule, RestoreTransform, save_estimator
from eqrestore_lightning.data import InMemoryDataModule
from eqrestore_lightning.theory import ConstructedEstimator, find_translates


def main(
    data: Path = DATA,
    num_images: int = 1_000,
    num_compared: int = 60_000,
    num_shifts: int = 1_024,
    output: Path = Path("outputs/constructed"),
    batch_size: int = 4,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw; by default EQRESTORE_DATA, or data.
        num_images: Training images that the estimator is constructed from and tested on.
        num_compared: Training images that are compared with one another, in every shift.
        num_shifts: Shifts of every image to try, in row-major order; 1,024 are all.
        output: Folder for the estimator's file, tables and W&B's files.
        batch_size: Images of which all shifts are restored together.
    """
    config = {"num_images": num_images, "num_compared": num_compared, "num_shifts": num_shifts}
    run = Run("constructed", output, tags=["theory"], config=config)
    pixels = training_images(MNISTDataModule(data))
    compare(run, pixels[:num_compared])
    restore = construct(run, pixels[:num_images])
    count_errors(run, pixels[:num_images], restore, num_shifts=num_shifts, batch_size=batch_size)
    run.close()


def training_images(data: InMemoryDataModule) -> Tensor:
    """Return all training images, in the order of the files."""
    return torch.cat([data.dataset("train").images, data.dataset("val").images])


def compare(run: Run, images: Tensor) -> None:
    """Compare every image with every other one and with itself, in every shift."""
    start = time.perf_counter()
    translates = find_translates(images)
    row = {
        "images": len(images),
        "shifts of others or of themselves": len(translates),
        "seconds": time.perf_counter() - start,
    }
    run.add_table("aperiodic", [row])


def construct(run: Run, images: Tensor) -> RestoreTransform:
    """Compute the estimator of a set of images, save it and load it."""
    start = time.perf_counter()
    estimator = ConstructedEstimator.from_images(images)
    seconds = time.perf_counter() - start
    path = run.output / "constructed.safetensors"
    save_estimator(estimator, path)
    row = {
        "images": len(images),
        "layers": len(estimator.decomposition.layers) + 2,
        "weights": sum(parameter.numel() for parameter in estimator.parameters()),
        "file, MB": path.stat().st_size / 1e6,
        "largest vote": int(estimator.vote.filters().max()),
        "seconds": seconds,
    }
    run.add_table("constructed", [row])
    return RestoreTransform(path)


def count_errors(
    run: Run, images: Tensor, restore: RestoreTransform, *, num_shifts: int, batch_size: int
) -> None:
    """Restore shifts of every image, and count those that differ from the image itself."""
    start = time.perf_counter()
    shifts = torch.cartesian_prod(*map(torch.arange, images.shape[2:]))[:num_shifts].tolist()
    errors = 0
    progress = tqdm(torch.split(images, batch_size), desc="Restoring")
    for batch in progress:
        shifted = torch.cat([batch.roll(shift, (2, 3)) for shift in shifts])
        expected = batch.repeat(len(shifts), 1, 1, 1)
        errors += int((restore(shifted) != expected).flatten(1).any(1).sum())
        progress.set_postfix(errors=errors)
    row = {
        "shifted images": len(images) * len(shifts),
        "restored to another image": errors,
        "minutes": (time.perf_counter() - start) / 60,
    }
    run.add_table("restored", [row])


if __name__ == "__main__":
    command_line(main)
