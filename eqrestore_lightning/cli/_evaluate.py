"""The command `eqrestore evaluate`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from eqrestore_lightning.cli._device import Device, choose_device
from eqrestore_lightning.files._writing import whole_file

if TYPE_CHECKING:
    from eqrestore_lightning.evaluation import Evaluation
    from eqrestore_lightning.motions import Motion

Kind: TypeAlias = Literal["circular", "zeros", "crop", "rotation"]

_AXES = {
    "circular": "largest circular shift (pixels)",
    "zeros": "largest shift, zeros enter (pixels)",
    "crop": "largest shift of the camera (pixels)",
    "rotation": "angle (degrees)",
}


def run(
    classifier: str,
    images: Path,
    weights: str,
    max_shift: int | None = None,
    kind: Kind = "circular",
    min_margin: float = 0.0,
    prior: float | None = None,
    image_size: int | None = None,
    grayscale: bool = False,
    labels: list[int] | None = None,
    batch_size: int = 256,
    seed: int = 0,
    output: Path | None = None,
    wandb_project: str | None = None,
    device: Device = "auto",
) -> None:
    """Measure a classifier on shifted or rotated images, with and without a restorer.

    Args:
        classifier: Checkpoint (.ckpt) of a ClassifierModule, or package.module:name of a network,
            or of a function without arguments that returns one; it takes images with values from 0
            to 1 and returns logits.
        images: Folder with one folder per class; all images are used, or only those below "test" if
            there is such a folder.
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        max_shift: Largest shift, in pixels, 8 by default; all smaller ones are measured as well.
            For rotations, the largest circular shift of rotated images, 0 by default.
        kind: How images are moved. "circular": shifted, and what leaves on one side enters on the
            other; with weights for images of any size, crops are measured beside them; "zeros":
            shifted, and zeros enter; "crop": classifier and restorer see a moving window, smaller
            than the images by max_shift on each side; "rotation": rotated by 0 to 345 degrees in
            steps of 15, and by random angles, or by quarter turns if the restorer finds those.
        min_margin: Leave images unchanged whose margin is smaller than this.
        prior: Share of images that you expect not to have been moved, between 0 and 1: images are
            left unchanged unless their motion is more probable, given that share.
        image_size: Resize images so that their shorter side has this many pixels, and keep the
            central square; required if images differ in size.
        grayscale: Read one channel instead of three.
        labels: For each class folder, in alphabetical order, the number of its class among the
            outputs of the classifier, if that knows other classes as well: "[7, 281]".
        batch_size: Number of images classified at a time.
        seed: Determines the shifts and angles.
        output: Folder to write the table (table.md), every figure (results.csv) and a chart
            (accuracy.png) to; older ones there are replaced.
        wandb_project: W&B project to log the table and the chart to; without a key they are kept
            offline, below output or the current folder.
        device: Where to compute; "auto" is a GPU ("cuda") if there is one, or else the CPU.
    """
    from eqrestore_lightning.cli._checks import check_at_least, check_output_folder
    from eqrestore_lightning.data import ImageFolderDataModule
    from eqrestore_lightning.evaluation import evaluate
    from eqrestore_lightning.evaluation._results import log_to_wandb
    from eqrestore_lightning.training._classifier import load_classifier
    from eqrestore_lightning.transforms import RestoreTransform

    if max_shift is None:
        max_shift = 0 if kind == "rotation" else 8
    check_at_least(0, max_shift=max_shift)
    check_at_least(1, batch_size=batch_size, image_size=image_size)
    if output is not None:
        check_output_folder(output)
    folder = images / "test" if (images / "test").is_dir() else images
    _check_classes(folder, labels)
    device = choose_device(device)  # type: ignore[assignment]  # one of its own values
    restore = RestoreTransform(weights, min_margin=min_margin, prior=prior).to(device)
    motions, axis = _motions(kind, max_shift, restore.estimator.motion)
    network = load_classifier(classifier).to(device)
    data = ImageFolderDataModule(images, image_size=image_size, grayscale=grayscale)
    dataset = data.read(folder)

    def measured(motions: "Mapping[str, Motion]", axis: str, *, crop: int) -> "Evaluation":
        return evaluate(
            network,
            dataset.loader(batch_size),
            restorers={"restored": restore},
            motions=motions,
            axis=axis,
            labels=labels,
            crop=crop,
            seed=seed,
            progress=sys.stderr.isatty(),
        )

    evaluations = [measured(motions, axis, crop=max_shift if kind == "crop" else 0)]
    if kind == "circular" and max_shift and restore.estimator.spatial_size is None:
        largest = {label: motions[label] for label in list(motions)[-1:]}
        evaluations.append(measured(largest, _AXES["crop"], crop=max_shift))
    if output is not None:
        _write(evaluations[0], output)
    if wandb_project is not None:
        log_to_wandb(evaluations[0], wandb_project, output or Path())
    if kind == "rotation" and max_shift:
        print(f"rotated, then shifted circularly by up to {max_shift} pixels")  # noqa: T201
    for evaluation in evaluations:
        print(f"\n{evaluation.table()}")  # noqa: T201
    print(f"\n{len(data.classes)} classes")  # noqa: T201
    for evaluation in evaluations:
        print(evaluation.verdict())  # noqa: T201


def _check_classes(folder: Path, labels: Sequence[int] | None) -> None:
    """Check that images lie in class folders, before any is decoded."""
    from eqrestore_lightning.data._image_files import find_images

    files = find_images(folder)
    classes = {path.relative_to(folder).parts[0] for path in files if path.parent != folder}
    if not classes:
        raise ValueError(f"Expected a folder for each class in {folder}, but found only images.")
    if labels is not None and len(labels) != len(classes):
        raise ValueError(
            f"Expected `labels` to name a class for each of the {len(classes)} folders in "
            f"{folder}, but got {len(labels)}."
        )


def _write(evaluation: "Evaluation", output: Path) -> None:
    import csv

    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / "table.md") as part:
        part.write_text(f"{evaluation.table()}\n", encoding="utf-8")
    rows = evaluation.rows()
    with (
        whole_file(output / "results.csv") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)
    chart = evaluation.draw(output / "accuracy.png", title="Accuracy with and without the restorer")
    print(f"Wrote table.md, results.csv and {chart}.")  # noqa: T201


def _motions(kind: Kind, max_shift: int, found: "Motion") -> tuple[Mapping[str, "Motion"], str]:
    """Return the motions to measure, by label, and the name of their axis."""
    from eqrestore_lightning.evaluation import shift_motions, turn_motions
    from eqrestore_lightning.motions import QuarterTurn, Shift, Turn

    if kind == "rotation" and isinstance(found, QuarterTurn):
        return {str(angle): Turn((angle, angle)) for angle in range(0, 360, 90)}, _AXES[kind]
    if kind == "rotation":
        return turn_motions(range(0, 360, 15), max_shift=max_shift), _AXES[kind]
    if not isinstance(found, Shift):
        names = ", ".join(field.name for field in found.fields)
        raise ValueError(
            f"Expected `weights` to find only shifts, but it finds ({names}); measure it with "
            f"`--kind rotation`."
        )
    shifts = range(max_shift + 1)
    motions = shift_motions(
        shifts, fill="zeros" if kind == "zeros" else "circular", axes=found.axes
    )
    return motions, _AXES[kind]
