"""Restore where no rule does: photographs without border, crops, noise and clutter.

MNIST in its blank border and CIFAR-10 padded with zeros can be restored by rules that know how they
were made. Here nothing but the seam of the wrap-around, or a digit in noise or on a photograph,
tells the shift. Each task trains one estimator and prints beside it what each rule gets:

- `cifar10-unpadded`: CIFAR-10 as it is, 32 × 32;
- `cifar10-crops`: windows of 24 × 24 at random offsets, so that the 8-pixel blocks of JPEG, if the
  images went through it, cannot betray the position;
- `mnist-noise`: Gaussian noise, standard deviation 0.3, over the whole image, clipped to 0…1;
- `mnist-clutter`: digits over darkened photographs.

A ResNet-18, trained on each kind of photographs and frozen, shows what restoring gains and loses,
with and without a gate (`min_margin`), and what becomes of crops that move over more image than
they show: there nothing wraps around and nothing should be moved.

    lightning run --precision bf16-mixed recipes/no_rule.py --data data
    lightning run recipes/no_rule.py --data data --only '["mnist-noise"]'

On one core of an Intel Xeon shared with other work four epochs take 14 minutes on unpadded
CIFAR-10, two take 8 on MNIST in noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from _augmented import Augmented
from _measure import gate_rows, shifts_found, spread
from _mnist import ClutteredMNIST, NoisyMNIST
from _recipe import DATA, Recipe, is_rank_zero
from _rules import blank_border_rule, centre_of_mass_rule, first_harmonic_phase, largest_seam
from jsonargparse import auto_cli
from torch import Tensor, nn

from eqrestore_lightning import (
    CIFAR10DataModule,
    ClassifierModule,
    RestorerModule,
    RestoreTransform,
    TranslationEstimator,
    circular_shift,
    evaluate_shifts,
)
from eqrestore_lightning.classifiers import Stem
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule, Split
from eqrestore_lightning.training import Restorer, step_generator

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


class CroppedCIFAR10(Augmented, CIFAR10DataModule):
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

    def augment(self, images: Tensor, step: int) -> Tensor:
        """Cut the windows of a training batch, at one offset."""
        generator = step_generator(self.seed, step)
        down, right = torch.randint(32 - CROP + 1, (2,), generator=generator).tolist()
        return images[..., down : down + CROP, right : right + CROP]


@dataclass
class Task:
    """Images, and the rules that might restore them."""

    data: Callable[..., InMemoryDataModule]
    rules: Mapping[str, Callable[[Tensor], Tensor]]
    classify: bool = False


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
        "cifar10-unpadded": Task(unpadded_cifar10, seam, classify=True),
        "cifar10-crops": Task(CroppedCIFAR10, seam, classify=True),
        "mnist-noise": Task(NoisyMNIST, digits),
        "mnist-clutter": Task(ClutteredMNIST, digits),
    }


def main(
    data: Path = DATA,
    output: Path = Path("outputs/no_rule"),
    only: Sequence[str] = (),
    epochs: int = 4,
    classifier_epochs: int = 2,
    stem: Stem = "original",
    num_images: int = 2_000,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw and CIFAR-10; by default what EQRESTORE_DATA names, or
            data.
        output: Folder for weights, tables and W&B's files.
        only: Names of the tasks to run; all by default.
        epochs: Times that training an estimator goes through the images.
        classifier_epochs: Times that training a ResNet-18 does.
        stem: Of the ResNet-18, "small" for a GPU.
        num_images: How many test images are classified.
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
    for name in only or known:
        task = known[name]
        source = task.data(data, batch_size=64, seed=seed)
        L.seed_everything(seed, verbose=False)
        estimator = TranslationEstimator(source.in_channels, source.spatial_size, **NETWORK)
        module = RestorerModule(estimator, learning_rate=3e-3, seed=seed)
        seconds = recipe.fit(name, module, source, epochs=epochs)
        if is_rank_zero():
            metrics = compare(recipe, name, task, source.dataset("test"), estimator.cpu(), seconds)
            recipe.save_weights(
                name,
                estimator,
                metrics=metrics,
                training_seconds=seconds,
                bundle=bundle and name == "cifar10-unpadded",
            )
        if not task.classify:
            continue
        L.seed_everything(seed, verbose=False)
        classifier = ClassifierModule(
            source.in_channels, 10, architecture="resnet18", stem=stem, learning_rate=2e-3
        )
        stage = f"{name}-resnet18"
        recipe.fit(stage, classifier, source, epochs=classifier_epochs, launcher_precision=True)
        if is_rank_zero():
            restore = RestoreTransform(estimator)
            classify(recipe, name, source, restore, classifier.cpu(), num_images)
    if is_rank_zero():
        recipe.close()


def compare(
    recipe: Recipe,
    name: str,
    task: Task,
    test: ImageTensors,
    estimator: TranslationEstimator,
    seconds: float,
) -> dict[str, float]:
    """Print what each rule and the estimator find; give what the estimator finds, from 0 to 1."""
    estimates = {
        **task.rules,
        f"learned in {seconds:.0f} s": RestoreTransform(estimator).estimate,
    }
    found = {label: shifts_found(test, estimate) for label, estimate in estimates.items()}
    rows = [{"estimator": label, **shares} for label, shares in found.items()]
    recipe.add_rows(f"{name}, shifts found on test images", rows)
    exact, near = next(reversed(found.values())).values()
    return {"exact": exact / 100, "within_1_pixel": near / 100}


def classify(
    recipe: Recipe,
    name: str,
    source: InMemoryDataModule,
    restore: RestoreTransform,
    classifier: nn.Module,
    num_images: int,
) -> None:
    """Measure a classifier under circular shifts, behind gates, and under crops that move."""
    test = spread(source.dataset("test"), num_images)
    restorers: dict[str, Restorer] = {"restored": restore}
    results = evaluate_shifts(
        classifier, test.loader(250), restorers=restorers, max_shifts=(0, 2, 4, 8)
    )
    recipe.add_results(f"{name}, circular shifts", results)
    recipe.add_rows(f"{name}, gate", gate_rows(classifier, test, restore, max_shift=8))
    if isinstance(source, CroppedCIFAR10):
        whole = spread(CIFAR10DataModule(source.root, padding=0).dataset("test"), num_images)
        margins = torch.cat([restore.margin(images) for images, _ in test.loader(250)])
        restorers["restored, gate at 10 %"] = RestoreTransform(
            restore.estimator, min_margin=float(margins.quantile(0.1))
        )
        results = evaluate_shifts(
            classifier, whole.loader(250), restorers=restorers, max_shifts=(0, 2, 4), kind="crop"
        )
        recipe.add_results(f"{name}, crops that move", results)


if __name__ == "__main__":
    auto_cli(main)
