"""Restore turned MNIST, alone and together with shifts, in front of a classifier that never saw it.

MNIST is zero-padded to 32 × 32. Trains a classifier on upright digits and freezes it, trains an
estimator of rotations and one of shifts of turned digits, and prints: accuracy against angle, with
and without the restorer and with what else one might do; what the gate makes of upright and of
turned digits; how far the angles are off; what becomes of 6 and 9; whether restoring is invariant;
turned and shifted digits; and how fast it is.

    lightning run recipes/rotated_mnist.py --data data

Takes TIME on 2 CPU cores (Intel Xeon with AMX).
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import wandb
from _experiment import _bundle, hardware
from _mnist import DATA
from _rotation import (
    ANGLES,
    Turned,
    draw_curves,
    draw_turned,
    fit,
    is_rank_zero,
    log,
    table,
    wandb_logger,
)
from _rotation_judge import Judge, Trained
from jsonargparse import auto_cli
from lightning.pytorch.loggers import WandbLogger

import eqrestore_lightning
from eqrestore_lightning import (
    ClassifierModule,
    MNISTDataModule,
    QuarterTurnEstimator,
    RestorerModule,
    RestoreTransform,
    RotationEstimator,
    TranslationEstimator,
    save_estimator,
)

ROTATION: dict[str, Any] = {
    "num_radii": 20,
    "num_angles": 72,
    "max_radius": 14.5,
    "hidden_channels": [32] * 6,
    "kernel_size": [9] * 6 + [1],
    "dilation": [1, 1, 2, 2, 4, 4, 1],
    "bias": True,
    "skip": True,
}
TRANSLATION: dict[str, Any] = {
    "hidden_channels": [6],
    "kernel_size": ["full", 1],
    "bias": True,
    "separable": True,
}
QUARTERS: dict[str, Any] = {
    "shifts": False,
    "hidden_channels": [16],
    "kernel_size": ["full", 1],
    "bias": True,
}


class TurnedMNIST(Turned, MNISTDataModule):
    """MNIST with training images turned at random."""


def main(
    data: Path = DATA,
    download: bool = False,
    output: Path = Path("outputs/rotated_mnist"),
    classifier_epochs: int = 8,
    restorer_epochs: int = 40,
    images: int = 10_000,
    precision: str = "bf16-mixed",
    seed: int = 0,
    reuse: bool = False,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds, or shall hold, MNIST/raw; by default what EQRESTORE_DATA names,
            or data.
        download: Download MNIST if it is not there.
        output: Folder for weights, pictures, tables and W&B's files.
        classifier_epochs: Epochs of each classifier.
        restorer_epochs: Epochs of the estimator of rotations; that of shifts gets half as many,
            that of quarter turns a tenth.
        images: How many of the test images to measure on.
        precision: Of training, as `lightning.Trainer` has it.
        seed: Decides everything random.
        reuse: Take what an earlier run left in `output` instead of training it again.
        bundle: Put the weights into the package, as `mnist-rotation` and `mnist-roto-translation`.
    """
    start = time.perf_counter()
    config = {
        "rotation": ROTATION,
        "translation": TRANSLATION,
        "classifier_epochs": classifier_epochs,
        "restorer_epochs": restorer_epochs,
        "seed": seed,
    }
    logger = wandb_logger("rotated_mnist", output, config)
    options = {"logger": logger, "precision": precision, "reuse": reuse}
    modules = {"data": data, "download": download, "seed": seed}
    trained = train(modules, classifier_epochs, restorer_epochs, output, options)
    if is_rank_zero():  # judge on one device: several would repeat images
        dataset = MNISTDataModule(data).dataset("test")
        command = f"lightning run recipes/rotated_mnist.py --seed {seed} --bundle true"
        upright = MNISTDataModule(data).dataset("train").images[:5000].float() / 255
        judge = Judge(trained, dataset.images[:images], dataset.labels[:images], upright, seed)
        report(judge, logger, output, command, bundle=bundle)
        print(f"Finished in {time.perf_counter() - start:.0f} s; see {output}.")
        wandb.finish()


def train(
    modules: dict[str, Any],
    classifier_epochs: int,
    restorer_epochs: int,
    output: Path,
    options: dict[str, Any],
) -> Trained:
    """Train both classifiers and all estimators."""
    seed = modules["seed"]
    path, download = modules["data"], modules["download"]
    upright = MNISTDataModule(path, download=download, seed=seed)
    turned = TurnedMNIST(path, download=download, seed=seed)

    def trained(name: str, build: Callable[[], Any], data: MNISTDataModule, epochs: int) -> Any:
        L.seed_everything(seed, verbose=False)
        module = build()
        path = output / f"{name}.ckpt"
        seconds[name] = fit(module, data, max(1, epochs), path=path, **options)
        return module.cpu().eval()

    def restorer(name: str, kind: Any, network: dict[str, Any], data: Any, epochs: int) -> Any:
        rate = 3e-3 if kind is RotationEstimator else 1e-2
        return trained(
            name,
            lambda: RestorerModule(kind(1, (32, 32), **network), learning_rate=rate, seed=seed),
            data,
            epochs,
        ).estimator

    seconds: dict[str, float] = {}
    half, tenth = restorer_epochs // 2, restorer_epochs // 10
    return Trained(
        classifier=trained(
            "classifier", lambda: ClassifierModule(1, 10), upright, classifier_epochs
        ),
        augmented=trained("augmented", lambda: ClassifierModule(1, 10), turned, classifier_epochs),
        rotation=restorer("rotation", RotationEstimator, ROTATION, upright, restorer_epochs),
        translation=restorer("translation", TranslationEstimator, TRANSLATION, turned, half),
        quarters=restorer("quarters", QuarterTurnEstimator, QUARTERS, upright, tenth),
        seconds=seconds["rotation"],
    )


def report(judge: Judge, logger: WandbLogger, output: Path, command: str, *, bundle: bool) -> None:
    """Measure, print, draw, log and save everything."""
    rows = judge.over_angles()
    mean = judge.mean()
    parts = [
        table(["turned by", *rows], list(zip(ANGLES, *rows.values(), strict=True))),
        table(
            ["way", "any angle", "upright", "same class under two angles"],
            [[k, mean[k], rows[k][0], v] for k, v in judge.consistency().items()],
        ),
        table(
            ["min_margin", "upright: restored", "accuracy", "turned: restored", "accuracy"],
            judge.gate(),
        ),
        *_about_angles(judge),
    ]
    metrics = {
        "accuracy": rows["no restorer"][0],
        "accuracy_restored": rows["restored"][0],
        "accuracy_any_angle": mean["no restorer"],
        "accuracy_any_angle_restored": mean["restored"],
    }
    exact, lines = _exact(judge)
    none, restored, unshifted = judge.roto_translation()
    both = {"accuracy_turned_and_shifted": none, "accuracy_turned_and_shifted_restored": restored}
    speed = judge.speed()
    lines += [
        f"Turned and shifted: {none:.2f} %, restored {restored:.2f} %; "
        f"turned only, restored by the same {unshifted:.2f} %.",
        f"Restoring {len(judge.images)} images: {speed['images_per_second']:,.0f} images/s on "
        f"{hardware()}, {torch.get_num_threads()} threads; {100 * speed['polar_share']:.0f} % of "
        f"the time in polar sampling, {100 * speed['turning_share']:.0f} % in turning.",
        f"Estimator of rotations: {_weights(judge.trained.rotation)} weights, trained in "
        f"{judge.trained.seconds:.0f} s.",
    ]
    text = "\n\n".join([*parts, "\n".join(lines)])
    print(f"\n{text}\n")
    (output / "table.md").write_text(text + "\n", encoding="utf-8")
    summary = {**metrics, **both, **exact, **speed}
    (output / "results.json").write_text(
        json.dumps({"rows": rows, "mean": mean, **summary}, indent=2), encoding="utf-8"
    )
    pictures = [
        draw_curves(output / "accuracy.png", rows, "MNIST, frozen upright classifier"),
        draw_turned(
            output / "turned.png", judge.images[:4], judge.restore, judge.trained.classifier
        ),
    ]
    log(logger, rows, summary, pictures)
    for name, estimator, figures in (
        ("mnist-rotation", judge.trained.rotation, metrics),
        ("mnist-roto-translation", judge.roto, {**metrics, **both}),
    ):
        notes = {
            "recipe": "recipes/rotated_mnist.py",
            "command": command,
            "seed": judge.seed,
            "weights": _weights(estimator),
            "training_seconds": round(judge.trained.seconds, 1),
            "hardware": hardware(),
            "versions": {
                "eqrestore-lightning": eqrestore_lightning.__version__,
                "torch": torch.__version__,
            },
            "metrics": {key: value / 100 for key, value in figures.items()},
        }
        path = output / f"{name}.safetensors"
        save_estimator(estimator, path, metadata={"notes": json.dumps(notes)})
        if bundle:
            _bundle(name, path, notes)


def _about_angles(judge: Judge) -> list[str]:
    error, margin, classes = judge.errors()
    labels = judge.labels
    groups = {
        "all": torch.ones_like(labels, dtype=torch.bool),
        "all but 0, 1 and 8, which look alike upside down": (labels != 0)
        & (labels != 1)
        & (labels != 8),
        **{f"margin of at least {least}": margin >= least for least in (1, 4)},
    }
    rows = [
        [
            name,
            100 * float(chosen.double().mean()),
            float(error[chosen].median()),
            100 * float((error[chosen] > 30).double().mean()),
        ]
        for name, chosen in groups.items()
    ]
    digits = [
        [
            digit,
            float(error[labels == digit].median()),
            100 * float((error[labels == digit] > 135).double().mean()),
            *(
                100 * float((classes[labels == digit] == other).double().mean())
                for other in (digit, 6, 9)
            ),
        ]
        for digit in range(10)
    ]
    return [
        table(["angles of", "share, %", "median error, degrees", "off by over 30°, %"], rows),
        table(
            [
                "digit",
                "median error, degrees",
                "upside down, %",
                "classified rightly, %",
                "as 6, %",
                "as 9, %",
            ],
            digits,
        ),
    ]


def _exact(judge: Judge) -> tuple[dict[str, float], list[str]]:
    wrong, rolled = judge.grid_errors()
    quarters = RestoreTransform(judge.trained.quarters)
    different = [judge.quarter_turns(restore) for restore in (judge.restore, quarters)]
    accuracy = [judge.quarter_accuracy(restore) for restore in (None, judge.restore, quarters)]
    count = len(judge.images)
    lines = [
        f"Polar images rolled by every grid angle: {wrong} of {rolled} estimates do not follow.",
        f"Quarter turns: of {count} images {different[0]} are restored differently in any bit by "
        f"the estimator of rotations, {different[1]} by that of quarter turns; accuracy "
        f"{accuracy[0]:.2f} % without, {accuracy[1]:.2f} % and {accuracy[2]:.2f} % with them.",
    ]
    return {
        "grid_errors": wrong,
        "quarter_turn_differences": sum(different),
        "accuracy_quarter_turns_restored": accuracy[2],
    }, lines


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    auto_cli(main)
