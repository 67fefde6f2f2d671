"""Measure how fast the bundled estimators restore turned images, and where the time goes.

Random images of 32 × 32 in uint8, batch 256: scores in exact arithmetic, ties, turning back.

    python recipes/rotation_speed.py

Leave the machine to it: what else runs shows in the figures.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from _recipe import hardware
from jsonargparse import auto_cli
from torch import Tensor

from eqrestore_lightning import RestoreTransform, RotationEstimator, rotate, to_polar
from eqrestore_lightning.nn import Estimator


def main(
    weights: Sequence[str] = ("mnist-rotation", "mnist-roto-translation"),
    images: int = 10_000,
    batch_size: int = 256,
    repeats: int = 3,
) -> None:
    """Run the recipe.

    Args:
        weights: Names of bundled weights, or files.
        images: How many images to restore.
        batch_size: Images at a time.
        repeats: Times that each is measured; the median counts.
    """
    print(f"{hardware()}; {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| weights | restoring, images/s | polar sampling, % of the time | turning back, % |")
    print("|---|---|---|---|")
    pixels = torch.randint(0, 256, (images, 1, 32, 32), dtype=torch.uint8)
    batches = torch.split(pixels, batch_size)
    for name in weights:
        restore = RestoreTransform(name)
        whole = seconds(restore, batches, repeats)
        polar = seconds(partial(_sample, _rotation(restore.estimator)), batches, repeats)
        turning = seconds(_turn, batches, repeats)
        shares = f"{100 * polar / whole:.1f} | {100 * turning / whole:.1f}"
        print(f"| {name} | {images / whole:,.0f} | {shares} |", flush=True)


def seconds(work: Callable[[Tensor], object], batches: Sequence[Tensor], repeats: int) -> float:
    """Give the median time that all batches take, after one to warm up."""
    work(batches[0])
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for batch in batches:
            work(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _rotation(estimator: Estimator) -> RotationEstimator:
    part = getattr(estimator, "rotation", estimator)
    if not isinstance(part, RotationEstimator):
        raise TypeError(f"Expected an estimator of rotations, but got {type(part).__name__}.")
    return part


def _sample(estimator: RotationEstimator, x: Tensor) -> Tensor:
    return to_polar(
        x.double(),
        num_radii=estimator.num_radii,
        num_angles=estimator.num_angles,
        max_radius=estimator.max_radius,
    )


def _turn(x: Tensor) -> Tensor:
    return rotate(x, torch.linspace(0, 360, len(x)))


if __name__ == "__main__":
    auto_cli(main)
