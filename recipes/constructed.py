"""Restore every shift of 1,000 MNIST images exactly, with no training: Theorem 4.5 as running code.

Checks that MNIST's 60,000 training images are aperiodic, computes the estimator of the first 1,000
(8 bit, 18 layers), saves and loads it, and restores all 1,024 circular shifts of each image.

    python recipes/constructed.py --data data

Takes 26 minutes on one core (Intel Xeon).
"""

import time
from pathlib import Path

import torch
from _recipe import DATA, hardware
from jsonargparse import auto_cli
from tqdm import tqdm

from eqrestore_lightning import (
    ConstructedEstimator,
    MNISTDataModule,
    RestoreTransform,
    find_translates,
    save_estimator,
)


def main(
    data: Path = DATA,
    images: int = 1_000,
    checked: int = 60_000,
    shifts: int = 1_024,
    output: Path = Path("outputs/constructed"),
    together: int = 4,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw; by default what EQRESTORE_DATA names, or data.
        images: Training images that the estimator is made of and tested on.
        checked: Training images that are compared with one another, in every shift.
        shifts: Shifts tried of every image, in row-major order; 1,024 are all.
        output: Folder for the estimator's file.
        together: Images of which all shifts are restored in one batch.
    """
    source = MNISTDataModule(data)
    pixels = torch.cat([source.dataset("train").images, source.dataset("val").images])[:checked]
    start = time.perf_counter()
    translates = find_translates(pixels)
    seconds = time.perf_counter() - start
    print(
        f"{len(pixels):,} images compared in every shift: {len(translates)} are shifts of others "
        f"or of themselves ({seconds:.1f} s, {hardware()})."
    )
    chosen = pixels[:images]
    start = time.perf_counter()
    estimator = ConstructedEstimator.from_images(chosen)
    seconds = time.perf_counter() - start
    output.mkdir(parents=True, exist_ok=True)
    path = output / "constructed.safetensors"
    save_estimator(estimator, path)
    weights = sum(parameter.numel() for parameter in estimator.parameters())
    layers = len(estimator.decomposition.layers) + 2
    votes = estimator.templates.vote.filters()
    print(
        f"Constructed from {images:,} images in {seconds:.1f} s: {layers} layers, {weights:,} "
        f"weights, {path.stat().st_size / 1e6:.1f} MB, largest vote {int(votes.max())}."
    )
    start = time.perf_counter()
    errors = _count_errors(chosen, RestoreTransform(path), shifts, together)
    seconds = time.perf_counter() - start
    print(
        f"{images * shifts:,} shifted images restored in {seconds / 60:.1f} minutes: {errors} "
        f"differ from the original."
    )


def _count_errors(
    images: torch.Tensor, restore: RestoreTransform, shifts: int, together: int
) -> int:
    size = images.shape[2:]
    places = torch.cartesian_prod(*map(torch.arange, size))[:shifts].tolist()
    errors = 0
    progress = tqdm(torch.split(images, together), desc="Restoring")
    for batch in progress:
        shifted = torch.cat([batch.roll(place, (2, 3)) for place in places])
        expected = batch.repeat(len(places), 1, 1, 1)
        errors += int((restore(shifted) != expected).flatten(1).any(1).sum())
        progress.set_postfix(errors=errors)
    return errors


if __name__ == "__main__":
    auto_cli(main)
