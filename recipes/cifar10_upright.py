"""Train and measure `cifar10-upright`, which finds quarter turns of CIFAR-10's images.

A small plain network looks at the four quarter turns of an image. Prints how many turns it finds
beside rules that need no training; the accuracy of a frozen classifier without, with, and with a
prior, as where most images are upright; and that all four turns of an image are restored to the
same image, bit for bit. It knows what CIFAR-10's ten classes look like, and no other photographs.

    python recipes/cifar10_upright.py --data data
    python recipes/cifar10_upright.py --data data --weights cifar10-upright

The second command trains no restorer, and measures the bundled weights.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _data import CIFAR10_CLASSES, MirroredCIFAR10, UnpaddedCIFAR10, spread
from _figures import draw_turned
from _run import DATA, Run, command_line, is_rank_zero
from torch import Tensor, nn

from eqrestore_lightning import QuarterTurn, RestoreTransform, evaluate
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.evaluation._found import count_differing, motion_found
from eqrestore_lightning.evaluation._restorers import Finder
from eqrestore_lightning.evaluation._rules import quarter_rules
from eqrestore_lightning.motions import Turn
from eqrestore_lightning.training import calibrate

_PRIORS = (0.5, 0.8, 0.95, 0.99, 0.999)
_GATES: dict[str, dict[str, float]] = {
    "none": {},
    **{f"prior={prior:g}": {"prior": prior} for prior in _PRIORS},
    "prior=0.95, min_margin=2": {"prior": 0.95, "min_margin": 2.0},
}


def main(
    data: Path = DATA,
    weights: str | None = None,
    minutes: float = 30.0,
    classifier_epochs: int = 5,
    num_images: int = 2_000,
    output: Path = Path("outputs/cifar10_upright"),
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains CIFAR-10; by default EQRESTORE_DATA, or data.
        weights: Bundled weights or a file to measure, instead of training.
        minutes: How long the restorer is trained.
        classifier_epochs: Epochs of the classifier.
        num_images: How many of the test images are classified.
        output: Folder for weights, pictures, tables and W&B's files.
        seed: Seed of everything random.
        bundle: Copy the weights into the package, as `cifar10-upright`.
    """
    config = {"weights": weights or "trained here", "minutes": minutes, "num_images": num_images}
    run = Run("cifar10_upright", output, seed=seed, tags=["rotation"], config=config)
    source = UnpaddedCIFAR10(data, seed=seed)
    classifier = run.fit_classifier("classifier", source, epochs=classifier_epochs).eval()
    restore = RestoreTransform(weights) if weights else train(run, data, minutes)
    if not is_rank_zero():  # evaluate in one process
        return
    test = source.dataset("test")
    rules = quarter_rules(source.dataset("train").images[:5000].float())
    parts = [part.float() for part in torch.split(test.images, 2_048)]
    found = {
        name: motion_found(parts, each, motion=QuarterTurn())
        for name, each in {"restored": restore, **rules}.items()
    }
    rows = [
        {"restorer": name, "found, %": 100 * next(iter(shares.values()))}
        for name, shares in found.items()
    ]
    run.add_table("quarter turns found", rows)
    few = spread(test, num_images)
    add_accuracy(run, classifier, few.loader(500), restore, rules)
    run.add_table("what a prior saves and costs", prior_rows(restore, test))
    run.add_table("invariance", [count_differing(restore, test.images, quarter_turns)])
    path, shown = output / "turned.png", test.images[7 :: len(test) // 5][:3]
    run.add_picture(
        draw_turned(path, shown, restore, classifier, QuarterTurn(), names=CIFAR10_CLASSES)
    )
    if not weights:
        metrics = {"quarter_turns": next(iter(found["restored"].values()))}
        run.save_weights(
            "cifar10-upright",
            restore.estimator,
            stage="restorer",
            metrics=metrics,
            bundle=bundle,
            dtype=torch.float16,
        )
    run.close()


def train(run: Run, data: Path, minutes: float) -> RestoreTransform:
    """Train the estimator on mirrored images, and scale its scores to log-probabilities."""
    source = MirroredCIFAR10(data, batch_size=128, seed=run.seed)
    restore = run.fit_restorer(
        "restorer", source, "upright", minutes=minutes, learning_rate=3e-3, launcher_precision=True
    )
    restore.estimator.half().float()  # what is saved is what is measured
    calibrate(restore.estimator, torch.split(source.dataset("val").images.float(), 500))
    return restore


@torch.no_grad()
def prior_rows(restore: RestoreTransform, test: ImageTensors) -> list[dict[str, Any]]:
    """Measure how many upright images priors and gates turn, and how many turned ones are right."""
    motion, generator = QuarterTurn(), torch.Generator().manual_seed(0)
    gates = {
        name: RestoreTransform(restore.estimator, **options) for name, options in _GATES.items()
    }
    harm: dict[str, list[Tensor]] = {name: [] for name in gates}
    right: dict[str, list[Tensor]] = {name: [] for name in gates}
    for x, _ in test.loader(500):
        element = motion.draw(len(x), (32, 32), generator=generator)
        moved, turned = motion.apply(x, element), element["quarters"] != 0
        scores = [restore.estimator.exact_scores(images) for images in (x, moved)]
        for name, gated in gates.items():
            found = [
                gated.decide(images, each).motion["quarters"]
                for images, each in zip((x, moved), scores, strict=True)
            ]
            harm[name].append(found[0] != 0)
            right[name].append((found[1] == element["quarters"])[turned])
    return [
        {
            "gate": name,
            "upright ones turned, %": 100 * float(torch.cat(harm[name]).double().mean()),
            "turned ones put right, %": 100 * float(torch.cat(right[name]).double().mean()),
        }
        for name in gates
    ]


def add_accuracy(
    run: Run,
    classifier: nn.Module,
    batches: Any,
    restore: RestoreTransform,
    rules: dict[str, Finder],
) -> None:
    """Add the accuracy on upright and on turned images: without, with priors, by rules."""
    priors = {
        f"restored, prior={prior:g}": RestoreTransform(restore.estimator, prior=prior)
        for prior in _PRIORS
    }
    evaluation = evaluate(
        classifier,
        batches,
        restorers={"restored": restore, **priors, **rules},
        motions={"upright": Turn((0, 0)), "quarter turns": QuarterTurn()},
        axis="turned",
        seed=run.seed,
    )
    run.add_evaluation("accuracy", evaluation, measures=["accuracy", "consistency"])
    run.say(evaluation.verdict())


def quarter_turns(x: Tensor) -> Iterator[Tensor]:
    """Yield the four quarter turns of images."""
    return (torch.rot90(x, count, (2, 3)) for count in range(4))


if __name__ == "__main__":
    command_line(main)
