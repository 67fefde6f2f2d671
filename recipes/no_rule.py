"""Restore where no rule does: photographs without border, crops, noise and clutter.

MNIST in its blank border and CIFAR-10 padded with zeros can be restored by rules that know how they
were made. Here nothing but the seam of the wrap-around, or a digit in noise or on a photograph,
tells the shift. Each task trains one estimator and prints beside it what each rule gets:

- `cifar10-unpadded`: CIFAR-10 as it is, 32 × 32;
- `cifar10-crops`: windows of 24 × 24 at random offsets, so that the 8-pixel blocks of JPEG, if the
  images went through it, cannot betray the position;
- `mnist-noise`: Gaussian noise, standard deviation 0.3, over the whole image, clipped to 0…1;
- `mnist-clutter`: digits over darkened photographs.

    lightning run recipes/no_rule.py --data data --only '["mnist-noise"]'
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from _measure import shifts_found
from _mnist import ClutteredMNIST, NoisyMNIST
from _recipe import DATA, Recipe, is_rank_zero
from _rules import blank_border_rule, centre_of_mass_rule, first_harmonic_phase, largest_seam
from jsonargparse import auto_cli
from torch import Tensor

from eqrestore_lightning import (
    CIFAR10DataModule,
    RestorerModule,
    RestoreTransform,
    TranslationEstimator,
    circular_shift,
)
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule, Split

# Local features, then sums along rows and columns: full-size filters that are outer products.
NETWORK: dict[str, Any] = {
    "hidden_channels": [16, 16, 16, 16, 16],
    "kernel_size": [3, 3, 3, "full", 3, 1],
    "dilation": [1, 1, 2, 1, 1, 1],
    "bias": True,
    "skip": True,
    "separable": [False, False, False, True, False, False],
}
CROP = 24


class CroppedCIFAR10(CIFAR10DataModule):
    """Cut a window out of each image, at an offset drawn anew for each training batch."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, padding=0, **options)
        self.spatial_size = (CROP, CROP)

    def load(self) -> dict[Split, ImageTensors]:
        """Cut validation and test images, each at its own offset; training images stay whole."""
        parts = super().load()
        generator = torch.Generator().manual_seed(self.seed)
        for split in ("val", "test"):
            images = parts[split].images
            offset = torch.randint(32 - CROP + 1, (len(images), 2), generator=generator)
            window = circular_shift(images, -offset)[..., :CROP, :CROP]
            parts[split] = ImageTensors(window, parts[split].labels)
        return parts

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Cut the windows of a training batch."""
        del dataloader_idx
        if self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        step = self.trainer.fit_loop.total_batch_idx
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        down, right = torch.randint(32 - CROP + 1, (2,), generator=generator).tolist()
        return images[..., down : down + CROP, right : right + CROP], labels


@dataclass
class Task:
    """Images, and the rules that might restore them."""

    data: Callable[..., InMemoryDataModule]
    rules: Mapping[str, Callable[[Tensor], Tensor]]
    epochs: int


def unpadded_cifar10(*args: Any, **options: Any) -> CIFAR10DataModule:
    """Give CIFAR-10 without border."""
    return CIFAR10DataModule(*args, padding=0, **options)


def tasks() -> dict[str, Task]:
    """List the tasks by name."""
    seam = {"largest seam": largest_seam}
    digits = {
        "centre of mass in its window": RestoreTransform(centre_of_mass_rule()).estimate,
        "first-harmonic phase": first_harmonic_phase,
        "blank border": RestoreTransform(blank_border_rule(1, (32, 32), 4)).estimate,
        **seam,
    }
    return {
        "cifar10-unpadded": Task(unpadded_cifar10, seam, 12),
        "cifar10-crops": Task(CroppedCIFAR10, seam, 10),
        "mnist-noise": Task(NoisyMNIST, digits, 6),
        "mnist-clutter": Task(ClutteredMNIST, digits, 6),
    }


def main(
    data: Path = DATA,
    output: Path = Path("outputs/no_rule"),
    only: Sequence[str] = (),
    epochs: int | None = None,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw and CIFAR-10; by default what EQRESTORE_DATA names, or
            data.
        output: Folder for weights, tables and W&B's files.
        only: Names of the tasks to run; all by default.
        epochs: Times that training goes through the images; by default what each task needs.
        seed: Decides everything random.
        bundle: Put the weights of `cifar10-unpadded` into the package.
    """
    known = tasks()
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise ValueError(f"Expected `only` to name tasks of {list(known)}, but got {unknown}.")
    recipe = Recipe(
        "no_rule",
        output,
        command=f"lightning run recipes/no_rule.py --seed {seed}",
        seed=seed,
        tags=["translation"],
        config={"network": NETWORK},
    )
    rows: list[dict[str, Any]] = []
    for name in only or known:
        task = known[name]
        source = task.data(data, batch_size=64, seed=seed)
        L.seed_everything(seed, verbose=False)
        estimator = TranslationEstimator(source.in_channels, source.spatial_size, **NETWORK)
        module = RestorerModule(estimator, learning_rate=3e-3, seed=seed)
        seconds = recipe.fit(name, module, source, epochs=epochs or task.epochs)
        if not is_rank_zero():
            continue
        restore = RestoreTransform(estimator.cpu())
        learned = shifts_found(source.dataset("test"), restore.estimate)
        rows += [
            {"task": name, "estimator": rule, **shifts_found(source.dataset("test"), estimate)}
            for rule, estimate in task.rules.items()
        ]
        rows.append({"task": name, "estimator": f"learned in {seconds:.0f} s", **learned})
        recipe.save_weights(
            name,
            estimator,
            metrics={"exact": learned["exact, %"] / 100},
            training_seconds=seconds,
            bundle=bundle and name == "cifar10-unpadded",
        )
    if is_rank_zero():
        recipe.add_rows("shifts found on test images", rows)
        recipe.close()


if __name__ == "__main__":
    auto_cli(main)
