"""Which network restores MNIST exactly, at what price: weights, training time, speed.

Trains each network from a random start on zero-padded MNIST, and measures it on the 10,000 test
images through `RestoreTransform`; beside them the rules that know how MNIST was made and need no
training.

    python recipes/mnist_tradeoff.py --data data

Takes 9 minutes on 2 CPU cores (AMD EPYC).
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from _mnist import MirroredMNIST
from _recipe import DATA
from _rules import centre_of_mass_rule, first_harmonic_phase
from jsonargparse import auto_cli
from torch import Tensor

from eqrestore_lightning import (
    MNISTDataModule,
    RestorerModule,
    RestoreTransform,
    TranslationEstimator,
)

SEPARABLE = {"kernel_size": ["full", 1], "bias": True, "separable": True}


@dataclass
class Entry:
    """One network and how it is trained; no epochs for a rule."""

    epochs: int = 0
    mirrored: bool = False
    learning_rate: float = 1e-2
    network: dict[str, Any] = field(default_factory=dict)
    start: Callable[[], TranslationEstimator] | None = None


ENTRIES: dict[str, Entry] = {
    "rule: centre of mass in its window, clear border": Entry(start=centre_of_mass_rule),
    "the same, trained on": Entry(epochs=2, learning_rate=1e-4, start=centre_of_mass_rule),
    "paper's network: 6 layers, 9 × 9, one channel": Entry(epochs=20, learning_rate=3e-3),
    "1 separable full-size filter": Entry(epochs=20, network={"hidden_channels": [1], **SEPARABLE}),
    "2 separable full-size filters": Entry(
        epochs=20, network={"hidden_channels": [2], **SEPARABLE}
    ),
    "4 separable full-size filters": Entry(
        epochs=20, network={"hidden_channels": [4], **SEPARABLE}
    ),
    "6 separable full-size filters": Entry(
        epochs=20, network={"hidden_channels": [6], **SEPARABLE}
    ),
    "6 separable, mirrored": Entry(
        epochs=40, mirrored=True, network={"hidden_channels": [6], **SEPARABLE}
    ),
    "8 full-size filters": Entry(
        epochs=20, network={"hidden_channels": [8], "kernel_size": ["full", 1], "bias": True}
    ),
    "16 channels, 3 × 3 dilated 1,1,2,4,8,1, skips": Entry(
        epochs=1,
        learning_rate=3e-3,
        network={
            "hidden_channels": [16] * 5,
            "kernel_size": 3,
            "dilation": [1, 1, 2, 4, 8, 1],
            "bias": True,
            "skip": True,
        },
    ),
}


def main(
    data: Path = DATA,
    only: Sequence[str] = (),
    output: Path = Path("outputs/mnist_tradeoff"),
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw; by default what EQRESTORE_DATA names, or data.
        only: Names of the rows to measure; all by default.
        output: Folder for the picture of the last network.
        seed: Decides everything random.
    """
    unknown = sorted(set(only) - set(ENTRIES))
    if unknown:
        raise ValueError(f"Expected `only` to name rows of {list(ENTRIES)}, but got {unknown}.")
    print(
        "| network | weights | epochs | training, s | restoring, images/s | exact, % | ≤ 1 px, % |"
    )
    print("|---|---|---|---|---|---|---|")
    batches = list(MNISTDataModule(data).test_dataloader())
    if not only:
        _print_row("rule: first-harmonic phase", 0, 0, 0.0, batches, first_harmonic_phase)
    for name, entry in ENTRIES.items():
        if only and name not in only:
            continue
        L.seed_everything(seed, verbose=False)
        estimator = (
            entry.start() if entry.start else TranslationEstimator(1, (32, 32), **entry.network)
        )
        start = time.perf_counter()
        if entry.epochs:
            source = MirroredMNIST if entry.mirrored else MNISTDataModule
            L.Trainer(
                accelerator="cpu",
                max_epochs=entry.epochs,
                limit_val_batches=0,
                default_root_dir=output,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
            ).fit(
                RestorerModule(estimator, learning_rate=entry.learning_rate, seed=seed),
                datamodule=source(data, seed=seed),
            )
        seconds = time.perf_counter() - start
        weights = sum(parameter.numel() for parameter in estimator.parameters())
        _print_row(
            name, weights, entry.epochs, seconds, batches, RestoreTransform(estimator).estimate
        )


def _print_row(
    name: str,
    weights: int,
    epochs: int,
    seconds: float,
    batches: Sequence[tuple[Tensor, Tensor]],
    estimate: Callable[[Tensor], Tensor],
) -> None:
    seconds_to_restore = []
    for _ in range(3):
        start = time.perf_counter()
        error = torch.cat([estimate(images) for images, _ in batches]).abs()
        seconds_to_restore.append(time.perf_counter() - start)
    speed = len(error) / statistics.median(seconds_to_restore)
    exact, near = ((error <= pixels).all(1).double().mean() * 100 for pixels in (0, 1))
    cost = f"{weights} | {epochs} | {seconds:.0f} | {speed:,.0f}"
    print(f"| {name} | {cost} | {exact:.2f} | {near:.2f} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
