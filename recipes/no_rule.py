"""Restore where hand-written rules fail: photographs without border, crops, noise and clutter.

MNIST in its blank border and CIFAR-10 padded with zeros can be restored by rules that know how they
were made. Here only the seam of the wrap-around, or a digit in noise or on a photograph, gives the
shift away. Each task trains one estimator and prints how often it and each rule find the shift:

- `cifar10-unpadded`: CIFAR-10 as it is, 32 × 32;
- `cifar10-crops`: windows of 24 × 24 at random offsets, so that the 8-pixel blocks of JPEG, if the
  images were compressed so, cannot give the position away;
- `mnist-noise`: Gaussian noise, standard deviation 0.3, over the whole image, clipped to 0…1;
- `mnist-clutter`: digits over darkened photographs.

A ResNet-18, trained on each kind of photographs and frozen, shows what restoring gains and loses,
with and without a gate (`min_margin`), and what happens to crops of an image that moves behind
them: there nothing wraps around, and nothing should be moved.

    lightning run --precision bf16-mixed recipes/no_rule.py --data data
    lightning run recipes/no_rule.py --data data --only '["mnist-noise"]'

On one core of an Intel Xeon shared with other work four epochs take 14 minutes on unpadded
CIFAR-10, two take 8 on MNIST in noise.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from _data import ClutteredMNIST, CroppedCIFAR10, NoisyMNIST, UnpaddedCIFAR10, spread
from _run import DATA, Run, command_line, is_rank_zero
from mnist import digit_rules
from torch import nn

from eqrestore_lightning import RestoreTransform, Shift, evaluate
from eqrestore_lightning.classifiers._architectures import Stem
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.evaluation._found import gate_rows
from eqrestore_lightning.evaluation._restorers import Finder
from eqrestore_lightning.evaluation._rules import seam_rules

Task: TypeAlias = Literal["cifar10-unpadded", "cifar10-crops", "mnist-noise", "mnist-clutter"]
DATA_SETS: dict[Task, Callable[..., InMemoryDataModule]] = {
    "cifar10-unpadded": UnpaddedCIFAR10,
    "cifar10-crops": CroppedCIFAR10,
    "mnist-noise": NoisyMNIST,
    "mnist-clutter": ClutteredMNIST,
}


def main(
    data: Path = DATA,
    output: Path = Path("outputs/no_rule"),
    only: Sequence[Task] | Task = (),
    epochs: int = 4,
    classifier_epochs: int = 2,
    stem: Stem = "original",
    num_images: int = 2_000,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw and CIFAR-10; by default EQRESTORE_DATA, or data.
        output: Folder for weights, tables and W&B's files.
        only: Task or tasks to run; all by default.
        epochs: Epochs of an estimator.
        classifier_epochs: Epochs of a ResNet-18.
        stem: Of the ResNet-18, "small" for a GPU.
        num_images: How many test images are classified.
        seed: Seed of everything random.
        bundle: Copy the weights of `cifar10-unpadded` into the package.
    """
    config = {"epochs": epochs, "classifier_epochs": classifier_epochs, "num_images": num_images}
    run = Run("no_rule", output, seed=seed, tags=["translation"], config=config)
    for name in [only] if isinstance(only, str) else only or get_args(Task):
        source = DATA_SETS[name](data, batch_size=64, seed=seed)
        photographs = name.startswith("cifar10")
        restore = run.fit_restorer(name, source, "seam", epochs=epochs, learning_rate=3e-3)
        if is_rank_zero():
            rules = seam_rules(source.in_channels)
            if not photographs:
                rules = {**digit_rules(), **rules}
            metrics = run.add_found(
                f"{name}, shifts found on test images",
                source.dataset("test"),
                {f"learned in {run.seconds(name):.0f} s": restore, **rules},
            )
            bundled = bundle and name == "cifar10-unpadded"
            run.save_weights(name, restore.estimator, stage=name, metrics=metrics, bundle=bundled)
        if photographs:
            classifier = run.fit_classifier(
                f"{name}-resnet18",
                source,
                epochs=classifier_epochs,
                launcher_precision=True,
                architecture="resnet18",
                stem=stem,
                learning_rate=2e-3,
            )
            if is_rank_zero():
                test = spread(source.dataset("test"), num_images)
                classify(run, name, classifier, restore, test)
            if is_rank_zero() and name == "cifar10-crops":
                whole = spread(UnpaddedCIFAR10(data).dataset("test"), num_images)
                classify_moving_crops(run, classifier, restore, test, whole)
    if is_rank_zero():
        run.close()


def classify(
    run: Run, name: str, classifier: nn.Module, restore: RestoreTransform, test: ImageTensors
) -> None:
    """Measure a classifier under circular shifts, behind restorers, rules and gates."""
    evaluation = evaluate(
        classifier,
        test.loader(250),
        restorers={"restored": restore, **seam_rules(3)},
        motions=shift_motions((0, 2, 4, 8)),
        seed=run.seed,
    )
    run.add_evaluation(f"{name}, circular shifts", evaluation, picture=f"{name}.png")
    gates = gate_rows(classifier, test, restore, motion=Shift(max_shift=8))
    run.add_table(f"{name}, gate", gates)


def classify_moving_crops(
    run: Run,
    classifier: nn.Module,
    restore: RestoreTransform,
    test: ImageTensors,
    whole: ImageTensors,
) -> None:
    """Measure a classifier on windows of moving images; the gate is chosen on `test`."""
    margin = restore.find(test.images).margin.quantile(0.1)
    gated = RestoreTransform(restore.estimator, min_margin=float(margin))
    restorers: dict[str, Finder] = {"restored": restore, "restored, gate at 10 %": gated}
    evaluation = evaluate(
        classifier,
        whole.loader(250),
        restorers=restorers,
        motions=shift_motions((0, 2, 4)),
        crop=4,
        seed=run.seed,
    )
    run.add_evaluation("cifar10-crops, crops that move", evaluation)


if __name__ == "__main__":
    command_line(main)
