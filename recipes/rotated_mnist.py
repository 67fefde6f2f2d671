"""Restore turned MNIST, alone and together with shifts, in front of a classifier of upright digits.

MNIST is zero-padded to 32 × 32, and each digit is moved by a fraction of a pixel so that its center
of mass lies in the middle: as they come, digits lie to the lower right of the middle, which gives
turned ones away. Circles are drawn about the center of mass as well. Trains a classifier on upright
digits, an estimator of rotations, and one of rotations and shifts, and prints: accuracy against
angle, with and without the restorer, beside four rules and a classifier trained on turned digits;
what a gate gains and costs; how far angles are off; what becomes of each digit, 6 and 9 above all;
how many restored images are not exactly invariant; and accuracy on digits that are turned and
shifted.

    lightning run --precision bf16-mixed recipes/rotated_mnist.py --data data

On 2 cores of an Intel Xeon (AMX) the estimator of rotations took 7 minutes to train, that of
rotations and shifts 18, all the rest 10.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _data import CenteredMNIST, spread
from _figures import draw_turned
from _run import DATA, Run, command_line, is_rank_zero
from torch import Tensor, nn

from eqrestore_lightning import (
    RestoreTransform,
    RotationEstimator,
    Shift,
    Turn,
    evaluate,
    to_polar,
)
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule
from eqrestore_lightning.evaluation import Evaluation, turn_motions
from eqrestore_lightning.evaluation._found import count_differing, gate_rows
from eqrestore_lightning.evaluation._restorers import Restorer
from eqrestore_lightning.evaluation._results import NO_RESTORER
from eqrestore_lightning.evaluation._rules import turn_rules
from eqrestore_lightning.motions import Motion

MAX_SHIFT = 16  # pixels: half of the image
MARGINS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
RINGS = {"num_radii": 20, "max_radius": 14.5, "center": "mass"}
CENTERED = {
    "hidden_channels": [6],
    "kernel_size": ["full", 1],
    "dilation": 1,
    "bias": True,
    "skip": False,
    "separable": True,
    "bits": None,  # two layers, which float32 decides
}
NETWORKS: dict[str, dict[str, Any]] = {
    "rotation": {"preset": "rotation", "learning_rate": 3e-3, **RINGS},
    "both": {
        "preset": "roto-translation",
        "learning_rate": 3e-3,
        "translation": CENTERED,
        **RINGS,
    },
}


@dataclass(frozen=True)
class Trained:
    """Classifiers of upright and of turned images; restorers of turned, and shifted, ones."""

    classifier: nn.Module
    augmented: nn.Module
    rotation: RestoreTransform
    both: RestoreTransform


def main(
    data: Path = DATA,
    download: bool = False,
    output: Path = Path("outputs/rotated_mnist"),
    classifier_epochs: int = 8,
    restorer_epochs: int = 40,
    both_epochs: int = 30,
    num_images: int = 10_000,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains, or is to contain, MNIST/raw; by default EQRESTORE_DATA, or data.
        download: Download MNIST if it is missing.
        output: Folder for weights, pictures, tables and W&B's files.
        classifier_epochs: Epochs of each classifier.
        restorer_epochs: Epochs of the estimator of rotations.
        both_epochs: Epochs of the estimator of rotations and shifts.
        num_images: How many of the test images to evaluate on.
        seed: Seed of everything random.
        bundle: Copy the weights into the package, as `mnist-rotation` and `mnist-roto-translation`.
    """
    epochs = {
        "classifier": classifier_epochs,
        "augmented": classifier_epochs,
        "rotation": restorer_epochs,
        "both": both_epochs,
    }
    config = {"epochs": epochs, "networks": NETWORKS, "num_images": num_images}
    run = Run("rotated_mnist", output, seed=seed, tags=["rotation"], config=config)
    source = CenteredMNIST(data, download=download, seed=seed)
    trained = train(run, source, epochs)
    if is_rank_zero():  # evaluate in one process: several would repeat images
        report(run, source, trained, num_images=num_images, bundle=bundle)
        run.close()


def train(run: Run, data: InMemoryDataModule, epochs: Mapping[str, int]) -> Trained:
    """Train both classifiers and both restorers."""

    def classifier(stage: str, motion: Motion | None) -> nn.Module:
        options: dict[str, Any] = {"launcher_precision": True, "motion": motion}
        return run.fit_classifier(stage, data, epochs=epochs[stage], **options)

    def restorer(stage: str) -> RestoreTransform:
        options = {"launcher_precision": True, **NETWORKS[stage]}
        return run.fit_restorer(stage, data, epochs=epochs[stage], **options)

    return Trained(
        classifier("classifier", None),
        classifier("augmented", Turn()),
        *map(restorer, NETWORKS),
    )


def report(
    run: Run, data: InMemoryDataModule, trained: Trained, *, num_images: int, bundle: bool
) -> None:
    """Print, draw and log everything; save the weights."""
    test = spread(data.dataset("test"), num_images)
    accuracy = add_accuracy(run, trained, test, data.dataset("train").images[:5000].float() / 255)
    shifted = evaluate(
        trained.classifier,
        test.loader(500),
        restorers={"restored": trained.both},
        motions=turn_motions((), max_shift=MAX_SHIFT),
        axis="turned by, degrees, then shifted",
        seed=run.seed,
    )
    run.add_evaluation("turned and shifted", shifted)
    for moved, restore in (("turned", trained.rotation), ("turned and shifted", trained.both)):
        gate = gate_rows(
            trained.classifier, test, restore, motion=Turn(), min_margins=MARGINS, seed=run.seed
        )
        run.add_table(f"gate, {moved}", gate)
        motion = restore.estimator.motion
        found = find_all(trained.classifier, test, restore, motion, seed=run.seed)
        run.add_table(f"angles, {moved}", angle_rows(found, digit_groups(test.labels, found)))
        run.add_table(f"digits, {moved}", digit_rows(test.labels, found))
        path = run.output / f"{moved.replace(' ', '_')}.png"
        run.add_picture(draw_turned(path, test.images[:4], restore, trained.classifier, motion))
    run.add_table("exact", exact_rows(trained, test.images, seed=run.seed))
    for name, stage, metrics in (
        ("mnist-rotation", "rotation", shares(accuracy, {"": "0", "_any_angle": "any"})),
        ("mnist-roto-translation", "both", shares(shifted, {"_turned_and_shifted": "any"})),
    ):
        estimator = getattr(trained, stage).estimator
        run.save_weights(name, estimator, stage=stage, metrics=metrics, bundle=bundle)


def shares(evaluation: Evaluation, motions: Mapping[str, str]) -> dict[str, float]:
    """Return accuracies, as `save_weights` notes them: suffix to label of the motion."""
    return {
        f"accuracy{suffix}{end}": evaluation.get(name, label).measures["accuracy"]
        for suffix, label in motions.items()
        for end, name in (("", NO_RESTORER), ("_restored", "restored"))
    }


def add_accuracy(run: Run, trained: Trained, test: ImageTensors, upright: Tensor) -> Evaluation:
    """Add accuracy against angle, and accuracy on upright and turned images; return the latter."""
    on_grid = RestoreTransform(trained.rotation.estimator)
    as_rotation(on_grid).sub_grid = False
    restorers: dict[str, Restorer] = {
        "restored": trained.rotation,
        "restored, grid angles only": on_grid,
        "restored, shift and angle": trained.both,
        **turn_rules(upright),
    }

    def measure(every: int, angles: Iterable[float]) -> Evaluation:
        images = ImageTensors(test.images[::every], test.labels[::every]).loader(500)
        options: dict[str, Any] = {
            "motions": turn_motions(angles),
            "axis": "angle (degrees)",
            "seed": run.seed,
        }
        frozen = evaluate(trained.classifier, images, restorers=restorers, **options)
        augmented = evaluate(trained.augmented, images, restorers={}, **options)
        name = "classifier trained on turned images"
        others = [replace(result, restorer=name) for result in augmented.results]
        return replace(frozen, results=[*frozen.results, *others])

    curve = measure(4, range(0, 360, 15))
    title = "accuracy against angle"
    run.add_evaluation(title, curve, measures=["accuracy"], picture="accuracy.png")
    accuracy = measure(1, (0,))
    run.add_evaluation("accuracy", accuracy)
    return accuracy


def exact_rows(trained: Trained, images: Tensor, *, seed: int) -> list[dict[str, Any]]:
    """Count images that should be restored to one image however they are moved, and are not."""
    estimator = as_rotation(trained.rotation)
    polar = to_polar(
        images[:500].double(),
        num_radii=estimator.num_radii,
        num_angles=estimator.num_angles,
        max_radius=estimator.max_radius,
    )
    generator = torch.Generator().manual_seed(seed)

    def grid_turns(x: Tensor) -> Iterable[Tensor]:
        return (x.roll(steps, 3) for steps in range(estimator.num_angles))

    def quarter_turns(x: Tensor) -> Iterable[Tensor]:
        return (torch.rot90(x, count, (2, 3)) for count in range(4))

    def two_shifts(x: Tensor) -> Iterable[Tensor]:
        size, shift = tuple(x.shape[2:]), Shift(max_shift=MAX_SHIFT)
        turned = Turn().apply(x, Turn().draw(len(x), size, generator=generator))
        draws = [shift.draw(len(x), size, generator=generator) for _ in range(2)]
        return (shift.apply(turned, draw) for draw in draws)

    checks: tuple[tuple[str, RestoreTransform, Tensor, Callable[..., Iterable[Tensor]]], ...] = (
        ("polar images, all grid angles", RestoreTransform(estimator.network), polar, grid_turns),
        ("four quarter turns, RotationEstimator", trained.rotation, images, quarter_turns),
        ("turned, two shifts, RotoTranslationEstimator", trained.both, images, two_shifts),
    )
    return [
        {"restored": name, **count_differing(restore, few, views)}
        for name, restore, few, views in checks
    ]


@torch.no_grad()
def find_all(
    classifier: nn.Module,
    images: ImageTensors,
    restore: RestoreTransform,
    motion: Motion,
    *,
    seed: int,
) -> dict[str, Tensor]:
    """Return the errors of each field, `margin` and `class` of every image, moved and restored."""
    generator = torch.Generator().manual_seed(seed)
    classifier.eval()
    found: dict[str, list[Tensor]] = defaultdict(list)
    for x, _ in images.loader(500):
        size = tuple(x.shape[2:])
        element = motion.draw(len(x), size, generator=generator)
        moved = motion.apply(x, element)
        each = restore.find(moved)
        classes = classifier(restore.undo(moved, each)).argmax(1)
        errors = motion.error(each.motion, element, size)
        for name, values in {**errors, "margin": each.margin, "class": classes}.items():
            found[name].append(values)
    return {name: torch.cat(parts) for name, parts in found.items()}


def digit_groups(labels: Tensor, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return groups of images whose angles may be harder or easier to find."""
    alike = torch.isin(labels, torch.tensor([0, 1, 8]))
    groups = {"all but 0, 1 and 8, which look alike upside down": ~alike}
    return groups | {f"margin of at least {m}": found["margin"] >= m for m in (1, 4, 8)}


def angle_rows(
    found: Mapping[str, Tensor], groups: Mapping[str, Tensor] | None = None
) -> list[dict[str, Any]]:
    """Return how far estimates are off, of all images and of groups of them that are not empty."""
    everything = torch.ones(len(found["angle"]), dtype=torch.bool)
    rows = []
    for name, chosen in {"all": everything, **(groups or {})}.items():
        angle = found["angle"][chosen]
        row = {
            "images": name,
            "share, %": percent(chosen),
            "median error, degrees": float(angle.median()),
            "off by over 30°, %": percent(angle > 30),
        }
        if "shift" in found:
            shift = found["shift"][chosen].amax(1) if chosen.any() else torch.empty(0)
            row["shift exact, %"] = percent(shift == 0)
            row["shift within a pixel, %"] = percent(shift <= 1)
        rows += [row] if chosen.any() else []
    return rows


def digit_rows(labels: Tensor, found: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Return how far estimates are off and what images are taken for, a row for each digit."""
    rows = []
    for digit in sorted(set(labels.tolist())):
        angle, classes = (found[name][labels == digit] for name in ("angle", "class"))
        rows.append(
            {
                "digit": digit,
                "median error, degrees": float(angle.median()),
                "upside down, %": percent(angle > 135),
                "classified correctly, %": percent(classes == digit),
                "as 6, %": percent(classes == 6),
                "as 9, %": percent(classes == 9),
            }
        )
    return rows


def percent(chosen: Tensor) -> float:
    """Return the share of entries that are true, percent."""
    return 100 * float(chosen.double().mean())


def as_rotation(restore: RestoreTransform) -> RotationEstimator:
    """Return the estimator of a restorer of rotations."""
    if not isinstance(restore.estimator, RotationEstimator):
        raise TypeError(f"Expected a RotationEstimator, but got {type(restore.estimator)}.")
    return restore.estimator


if __name__ == "__main__":
    command_line(main)
