"""Train `photo-upright`, which finds quarter turns of photographs, and `photo-turn`, any angle.

A small plain network looks at the four quarter turns of a photograph. Trained on CIFAR-10, on crops
of photographs that come with Python packages and on views of panoramas; measured on the test images
of CIFAR-10, on other photographs and on views of other scenes, beside rules that need no training,
and in front of a frozen classifier. Prints what a prior (most photographs are upright) and a gate
save upright images, and what they cost turned ones.

    pip install scikit-image scikit-learn
    python recipes/upright.py --data data --panoramas data/panoramas
    python recipes/upright.py --data data --panoramas data/panoramas --angles 72 --minutes 60

The same commands take a folder of your own upright photographs, `--photographs my/photographs`.
With `--weights FILE` (or the name of bundled weights) and `--minutes 0` nothing is trained and only
the tables are printed; with `--weights` and minutes training starts from them.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from _data import CIFAR10_CLASSES, UnpaddedCIFAR10, spread
from _figures import draw_turned
from _minutes import train_for
from _origin import origin
from _photo_data import (
    TEST,
    TEST_PANORAMAS,
    TRAINING_PANORAMAS,
    list_photographs,
    packaged_photographs,
)
from _photographs import build_classifier
from _rotation_tables import vote_rows
from _rules import turn_rules
from _run import DATA, Run, is_rank_zero, rank
from _upright_data import UPRIGHT_TRAINING, UprightBatches, pictures
from _upright_tables import (
    corner_rows,
    draw_prior,
    equal_rows,
    gate_rows,
    quarter_rules,
    source_rows,
    told,
)
from jsonargparse import auto_cli
from photographs import agreement
from torch import Tensor, nn

from eqrestore_lightning import (
    RestoreTransform,
    Turn,
    UprightEstimator,
    build_preset,
    evaluate,
    load_estimator,
    save_estimator,
)
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.evaluation import Restorer, turn_motions
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training import calibrate

_RESOLUTION = 32  # pixels: that of most training images, at which the network finds most


def main(
    data: Path = DATA,
    panoramas: Path = DATA / "panoramas",
    photographs: Path | None = None,
    output: Path | None = None,
    weights: str | None = None,
    angles: int = 4,
    mirrors: bool = False,
    minutes: float = 30.0,
    learning_rate: float = 3e-3,
    num_images: int = 2_000,
    tables: bool = True,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds CIFAR-10; by default EQRESTORE_DATA, or data.
        panoramas: Folder of the panoramas.
        photographs: Folder of upright photographs to train on, besides CIFAR-10, instead of those
            of packages and the panoramas.
        output: Folder for weights, tables and pictures; by default outputs/photo-upright, or
            outputs/photo-turn if there are more than four angles.
        weights: Where to start: bundled weights or a file; by default fresh weights.
        angles: Number of angles scored: 4 for quarter turns.
        mirrors: Whether mirror images are found as well.
        minutes: How long to train; 0 to measure only.
        learning_rate: Of AdamW.
        num_images: Test images of CIFAR-10 that are classified.
        tables: Whether to print the tables.
        seed: Decides everything random.
    """
    name = "photo-upright" if angles == 4 else "photo-turn"
    output = output or Path("outputs") / name
    run = Run(name, output, seed=seed, config={"angles": angles, "minutes": minutes})
    L.seed_everything(seed, verbose=False)
    kind = {"num_angles": angles, "mirrors": mirrors}
    estimator = load_estimator(weights) if weights else build_preset(name, 3, (), **kind)
    source = UnpaddedCIFAR10(data, seed=seed)
    source.setup()
    if minutes > 0:
        large = (
            pictures(list_photographs(photographs), [], 3_000, seed)
            if photographs
            else pictures(
                packaged_photographs(UPRIGHT_TRAINING, panoramas, ""),
                packaged_photographs({}, panoramas, TRAINING_PANORAMAS),
                3_000,
                seed,
            )
        )
        batches = UprightBatches(source.dataset("train").images, large, 1_000 * seed + rank())
        train_for(
            minutes,
            estimator,
            batches,
            seed=seed,
            precision="bf16-mixed",
            learning_rate=learning_rate,
            weight_decay=1e-2,
        )
        if isinstance(estimator, UprightEstimator):
            estimator.resolution = _RESOLUTION
        estimator.half().float()  # what is saved is what is measured
        factor = calibrate(estimator, torch.split(source.dataset("val").images.float(), 500))
        run.say(f"Scores times {factor:.3f} are log-probabilities on validation images.")
    if not is_rank_zero():  # evaluate in one process
        return
    if minutes > 0:
        save_estimator(
            estimator,
            output / f"{name}.safetensors",
            metadata={"notes": json.dumps(origin())},
            dtype=torch.float16,
        )
    if tables:
        crops = packaged_photographs(TEST, panoramas, "")
        views = packaged_photographs({}, panoramas, TEST_PANORAMAS)
        sources = {path.stem: pictures([path], [], 50, seed, 224, 0.7) for path in crops}
        sources |= {path.stem: pictures([], [path], 50, seed, 224) for path in views}
        report(run, estimator.eval(), source, sources, num_images)
    run.close()


def report(
    run: Run,
    estimator: Estimator,
    source: UnpaddedCIFAR10,
    sources: Mapping[str, Tensor],
    num_images: int,
) -> None:
    """Print, draw and log everything; `sources` are test photographs, by name."""
    test, val = source.dataset("test"), source.dataset("val").images
    classifier = run.fit_classifier("classifier", source, epochs=5).eval()
    upright = source.dataset("train").images[:5000].float()
    restore, turn = RestoreTransform(estimator), estimator.motion
    rules = turn_rules(upright) if isinstance(turn, Turn) else quarter_rules(upright)
    compared: dict[str, Restorer] = {"restored": restore, **rules}
    every = {"CIFAR-10 (JPEG), 32 × 32": test.images, **sources}
    run.add_table("found", list(source_rows(compared, every, turn)))
    rows = gate_rows(estimator, classifier, val, test)
    run.add_table("what a prior saves and costs", rows)
    run.add_picture(draw_prior(run.output / "prior.png", rows))
    some = spread(test, num_images)
    add_accuracy(run, classifier, some, estimator, rules)
    run.add_table("votes", vote_rows(classifier, some, restore, turn, seed=run.seed))
    if find_spec("efficientnet_lite_pytorch") and not isinstance(turn, Turn):
        add_pretrained(run, estimator, sources)
    run.add_table("invariance", list(equal_rows(estimator, every)))
    if isinstance(turn, Turn):
        run.add_table("corners", list(corner_rows(estimator, every)))
    shown = test.images[7 :: len(test) // 5][:3]
    path = run.output / "turned.png"
    run.add_picture(draw_turned(path, shown, restore, classifier, turn, names=CIFAR10_CLASSES))


def add_pretrained(run: Run, estimator: Estimator, sources: Mapping[str, Tensor]) -> None:
    """Add how often a classifier of ImageNet answers as for the upright photograph."""
    views = torch.cat([images[:30] for images in sources.values()])
    restorers: dict[str, Restorer] = {
        "restored": RestoreTransform(estimator),
        "restored, prior=0.95": RestoreTransform(estimator, prior=0.95),
    }
    rows = agreement(build_classifier("efficientnet-lite0"), views, restorers, estimator.motion)
    run.add_table(f"EfficientNet-Lite0: same class as upright, % of {len(views)}", rows)


def add_accuracy(
    run: Run,
    classifier: nn.Module,
    test: ImageTensors,
    estimator: Estimator,
    rules: Mapping[str, Restorer],
) -> None:
    """Add the accuracy of upright and turned images, and what being told the angle gives."""
    turn = estimator.motion
    restorers: dict[str, Restorer] = {
        "restored": RestoreTransform(estimator),
        "restored, prior=0.95": RestoreTransform(estimator, prior=0.95),
        **rules,
    }
    options: dict[str, Any] = {"restorers": restorers, "seed": run.seed}
    if isinstance(turn, Turn):
        motions: dict[str, Motion] = turn_motions(range(0, 360, 30))
        evaluation = evaluate(
            classifier, test.loader(500), motions=motions, axis="turned by, degrees", **options
        )
        title, shown = "accuracy against angle", ["accuracy", "consistency"]
        run.add_evaluation(title, evaluation, measures=shown, picture="accuracy.png")
        accuracy = told(classifier, test, Turn(fill=turn.fill), seed=run.seed)
        run.add_table("told the angle", [{"accuracy, %": accuracy}])
    else:
        motions = {"upright": Turn((0, 0)), "quarter turns": turn}
        evaluation = evaluate(
            classifier, test.loader(500), motions=motions, axis="turned", **options
        )
        run.add_evaluation("accuracy", evaluation, measures=["accuracy", "consistency"])


if __name__ == "__main__":
    auto_cli(main)
