"""Which network restores MNIST exactly, at what price: weights, training time, speed.

Trains each network from a random start on zero-padded MNIST, and measures on the 10,000 test images
how often it finds random shifts and how fast it restores; beside them, the rules that know how
MNIST was made and need no training.

    python recipes/mnist_tradeoff.py --data data

Takes 9 minutes on 2 CPU cores (AMD EPYC).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from _data import MirroredMNIST
from _run import DATA, Run, command_line, is_rank_zero, median_seconds
from mnist import center_of_mass, digit_rules

from eqrestore_lightning import MNISTDataModule, RestorerModule, RestoreTransform, build_preset
from eqrestore_lightning.evaluation._found import shifts_found
from eqrestore_lightning.evaluation._restorers import Finder


@dataclass(frozen=True)
class Entry:
    """One network, by preset (none: the rule of the center of mass), and how it is trained."""

    preset: str = "centered"
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 20
    learning_rate: float = 1e-2
    mirrored: bool = False


DILATED = {
    "hidden_channels": [16] * 5,
    "kernel_size": 3,
    "dilation": [1, 1, 2, 4, 8, 1],
    "bias": True,
    "skip": True,
}
ENTRIES: dict[str, Entry] = {
    "rule: center of mass in its window, trained on": Entry("", epochs=2, learning_rate=1e-4),
    "paper's network: 6 layers, 9 × 9, one channel": Entry("paper", learning_rate=3e-3),
    "1 separable full-size filter": Entry(options={"hidden_channels": [1]}),
    "2 separable full-size filters": Entry(options={"hidden_channels": [2]}),
    "4 separable full-size filters": Entry(options={"hidden_channels": [4]}),
    "6 separable full-size filters": Entry(),
    "6 separable, mirrored": Entry(epochs=40, mirrored=True),
    "8 full-size filters": Entry(options={"hidden_channels": [8], "separable": False}),
    "16 channels, 3 × 3 dilated 1,1,2,4,8,1, skips": Entry("paper", DILATED, 1, 3e-3),
}


def main(
    data: Path = DATA,
    only: Sequence[str] = (),
    output: Path | None = None,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw; by default EQRESTORE_DATA, or data.
        only: Names of the rows to measure; all by default.
        output: Folder for weights, the table and W&B's files; outputs/mnist_tradeoff-SEED.
        seed: Seed of everything random.
    """
    rules = digit_rules()
    names = [*rules, *ENTRIES]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise ValueError(f"Expected `only` to name rows of {names}, but got {unknown}.")
    folder = output or Path(f"outputs/mnist_tradeoff-{seed}")
    run = Run("mnist_tradeoff", folder, seed=seed, tags=["translation"])
    rows = []
    for name in only or names:
        restore = rules[name] if name in rules else train(run, name, ENTRIES[name], data)
        if is_rank_zero():
            rows.append(measure(run, name, restore, MNISTDataModule(data)))
    if is_rank_zero():
        run.add_table("networks and rules", rows)
        run.close()


def train(run: Run, name: str, entry: Entry, data: Path) -> RestoreTransform:
    """Train one network, in a stage of its name."""
    L.seed_everything(run.seed, verbose=False)
    start = partial(build_preset, entry.preset, 1, (32, 32), **entry.options)
    estimator = start() if entry.preset else center_of_mass()
    source = (MirroredMNIST if entry.mirrored else MNISTDataModule)(data, seed=run.seed)
    module = RestorerModule(estimator, learning_rate=entry.learning_rate, seed=run.seed)
    run.fit(name, module, source, epochs=entry.epochs)
    return RestoreTransform(estimator.cpu())


def measure(run: Run, name: str, restore: Finder, data: MNISTDataModule) -> dict[str, Any]:
    """Return one row of the table."""
    test = data.dataset("test")
    images = test.images[:256].float() / 255
    estimator = restore.estimator if isinstance(restore, RestoreTransform) else None
    row = {
        "network": name,
        "weights": sum(t.numel() for t in estimator.state_dict().values()) if estimator else 0,
        "epochs": ENTRIES[name].epochs if name in ENTRIES else 0,
        "training, s": round(run.seconds(name)) if name in ENTRIES else 0,
        "restoring, images/s": round(len(images) / median_seconds(lambda: restore(images))),
        **shifts_found(test, restore),
    }
    run.say(f"{name}: {row['exact, %']:.2f} % exactly")
    return row


if __name__ == "__main__":
    command_line(main)
