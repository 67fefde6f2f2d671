"""Restore MNIST in front of a small CNN, beside the paper's figures and untrained rules.

MNIST is zero-padded to 32 × 32, or resized to it as in the paper. Trains the classifier and the
restorer, and prints the classifier's accuracy under circular and zero-fill shifts of up to 0 … 8
pixels, with and without the restorer, beside the first row of the paper's Table 1 and three rules.

    lightning run recipes/mnist.py --data data
    lightning run recipes/mnist.py --data data --enlarge resize

Resized, with 4 and 20 epochs, it took 18 minutes on one core of an Intel Xeon shared with other
work.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _data import MirroredMNIST, spread
from _figures import animate, draw_restored
from _run import DATA, Run, command_line, is_rank_zero
from torch import nn

from eqrestore_lightning import (
    MNISTDataModule,
    RestoreTransform,
    Shift,
    TranslationEstimator,
    evaluate,
)
from eqrestore_lightning.data import InMemoryDataModule
from eqrestore_lightning.data._mnist import Enlarge
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.evaluation._found import gate_rows
from eqrestore_lightning.evaluation._restorers import Finder
from eqrestore_lightning.evaluation._rules import border_rule, harmonic_rule
from eqrestore_lightning.motions._shift import ShiftFill

PAPER = {
    "accuracy, paper (resized): no restorer": [
        *(98.89, 98.21, 95.41, 87.07, 76.61, 62.9, 51.33, 41.1, 35.7)
    ],
    "accuracy, paper (resized): restored": [98.59] * 9,
}


def main(
    data: Path = DATA,
    download: bool = False,
    enlarge: Enlarge = "pad",
    classifier: str | None = None,
    output: Path | None = None,
    classifier_epochs: int = 8,
    restorer_epochs: int = 40,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains, or is to contain, MNIST/raw; by default EQRESTORE_DATA, or data.
        download: Download MNIST if it is missing.
        enlarge: Pad with zeros, or resize as in the paper.
        classifier: A trained one instead, .ckpt or package.module:name.
        output: Folder for weights, pictures, tables and W&B's files; outputs/mnist, or
            outputs/mnist-resize.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        seed: Seed of everything random.
        bundle: Copy the weights into the package, as `mnist` or `mnist-resize`.
    """
    name = "mnist" if enlarge == "pad" else "mnist-resize"
    run = Run(
        name,
        output or Path("outputs") / name,
        seed=seed,
        tags=["translation"],
        config={
            "classifier": classifier or "trained here",
            "classifier_epochs": classifier_epochs,
            "restorer_epochs": restorer_epochs,
        },
    )
    options: dict[str, Any] = {"enlarge": enlarge, "download": download, "seed": seed}
    digits = MNISTDataModule(data, **options)
    shown = MirroredMNIST(data, **options) if enlarge == "pad" else digits
    network = run.fit_classifier("classifier", digits, epochs=classifier_epochs, given=classifier)
    restore = run.fit_restorer("restorer", shown, "centered", epochs=restorer_epochs)
    if is_rank_zero():  # evaluate in one process: several would repeat images
        report(run, digits, network, restore, digit_rules(), reference=PAPER, bundle=bundle)


def report(
    run: Run,
    data: InMemoryDataModule,
    classifier: nn.Module,
    restore: RestoreTransform,
    rules: Mapping[str, Finder],
    *,
    sizes: Sequence[int] = range(9),
    num_images: int | None = None,
    reference: Mapping[str, Sequence[float]] | None = None,
    bundle: bool = False,
) -> None:
    """Print, draw and log accuracy under shifts, shifts found and the gate; save the weights.

    `restore` was trained in the stage `restorer`. The first `num_images` test images, spread over
    the set, are classified under shifts of up to each of `sizes`; shifts are looked for on all.
    """
    learned = {"restored": restore}
    test = spread(data.dataset("test"), num_images)
    axes = tuple(range(2 - test.images.ndim, 0))
    fills: dict[ShiftFill, Mapping[str, Finder]] = {
        "circular": {**learned, **rules},
        "zeros": learned,
    }
    for fill, restorers in fills.items():
        circular = fill == "circular"
        evaluation = evaluate(
            classifier,
            test.loader(250),
            restorers=restorers,
            motions=shift_motions(sizes, fill=fill, axes=axes),
            seed=run.seed,
        )
        run.add_evaluation(
            "circular shifts" if circular else "zero-fill shifts",
            evaluation,
            reference=reference if circular else None,
            picture="accuracy.png" if circular else None,
        )
    motion = Shift(axes, max_shift=max(sizes))
    run.add_table("gate", gate_rows(classifier, test, restore, motion=motion))
    trained = {f"learned in {run.seconds('restorer'):.0f} s": restore}
    metrics = run.add_found(
        "shifts found on test images", data.dataset("test"), {**trained, **rules}
    )
    path = run.output / "restored.png"
    run.add_picture(draw_restored(path, test.images[:8], restore, classifier, seed=run.seed))
    if len(axes) == 2:
        run.add_picture(animate(run.output / "restored.gif", test.images[:6], restore))
    run.save_weights(run.name, restore.estimator, stage="restorer", metrics=metrics, bundle=bundle)
    run.close()


def digit_rules() -> dict[str, Finder]:
    """Return the rules for MNIST at 32 × 32."""
    return {
        "rule: center of mass in its window": RestoreTransform(center_of_mass()),
        **harmonic_rule(),
        **border_rule(1, (32, 32), 4),
    }


@torch.no_grad()
def center_of_mass() -> TranslationEstimator:
    """Build the network that looks for the center of mass in its window and a clear border.

    MNIST's digits were placed by rounding their center of mass to whole pixels: zero-padded to
    32 × 32 it lies in [15.5, 16.5) on both axes. Four full-size filters measure by how much a place
    misses that, a fifth the mass within two pixels of the border; the score is the negative sum of
    all five, 0 where everything fits. A bias smaller than one gray level keeps the window open at
    its upper end.
    """
    size = 32
    estimator = TranslationEstimator(
        1, (size, size), hidden_channels=[5], kernel_size=["full", 1], bias=True
    )
    position = (torch.arange(size) - (size - 1) // 2) % size  # the pixel that each tap reads
    low, high, flat = 15.5 - position, position - 16.5, torch.ones(size)
    outside = (position < 2) | (position >= size - 2)
    filters = [
        torch.outer(low, flat),
        torch.outer(high, flat),
        torch.outer(flat, low),
        torch.outer(flat, high),
        (outside[:, None] | outside).float(),
    ]
    weights = dict(estimator.named_parameters())
    weights["layers.0.weight"].copy_(torch.stack(filters).unsqueeze(1))
    weights["layers.0.bias"].copy_(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]) / 1020)
    weights["layers.1.weight"].fill_(-1.0)
    return estimator


if __name__ == "__main__":
    command_line(main)
