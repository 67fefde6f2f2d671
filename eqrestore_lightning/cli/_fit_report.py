"""What `eqrestore fit` prints about the data before training and about the result after it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqrestore_lightning.cli._device import Device, choose_device
from eqrestore_lightning.functional import motion_distance

if TYPE_CHECKING:
    from eqrestore_lightning.data._module import DataModule, Split
    from eqrestore_lightning.motions import Field, Motion
    from eqrestore_lightning.nn import Estimator
    from eqrestore_lightning.transforms import RestoreTransform

_GOOD = 0.5  # share found, below which it is said what to try
_ADVICE = (
    "Note: Fewer than half are found. Try more images, more steps (`--steps`), or another network "
    "(`--network`): border or centered for objects in a blank border, seam or photo for what fills "
    "the frame. `eqrestore inspect` names images that cannot be restored."
)
_DONE = {"shift": "shifted", "angle": "rotated", "quarters": "turned", "mirrored": "mirrored"}


def describe_data(data: "DataModule") -> None:
    """Print how the data are split, which of them are kept together, and their problems."""
    from eqrestore_lightning.data._problems import find_problems

    print(data.describe_split())  # noqa: T201
    for problem in find_problems(data):
        print(f"Note: {problem}")  # noqa: T201


def report(
    estimator: "Estimator",
    data: "DataModule",
    motion: "Motion",
    *,
    seed: int,
    device: Device = "auto",
) -> str:
    """Return how well moved test images are restored, also by rules that need no training.

    Every process of a launch may call it, and measures all images by itself.

    Args:
        estimator: The trained estimator.
        data: Where test images come from.
        motion: How they are moved.
        seed: Determines by how much.
        device: Where to compute.

    Returns:
        See `conclusion`.
    """
    from eqrestore_lightning.evaluation._found import motion_found
    from eqrestore_lightning.evaluation._rules import harmonic_rule, seam_rules
    from eqrestore_lightning.motions import Shift
    from eqrestore_lightning.transforms import RestoreTransform

    restorers: dict[str, Any] = {"": RestoreTransform(estimator).to(choose_device(device))}
    if isinstance(motion, Shift):
        restorers |= seam_rules(
            estimator.in_channels, axes=motion.axes, num_spatial_dims=estimator.num_spatial_dims
        )
        restorers |= harmonic_rule(axes=motion.axes)
    found = {
        name: motion_found(_batches(data, "test", device), restorer, motion=motion, seed=seed)
        for name, restorer in restorers.items()
    }
    median = _median_error(_batches(data, "test", device), restorers[""], motion, seed)
    return conclusion(found.pop(""), found, motion, _size(data), _noun(data), median=median)


def keep_better(
    estimator: "Estimator",
    before: Mapping[str, Tensor],
    data: "DataModule",
    motion: "Motion",
    source: str,
    *,
    seed: int,
    device: Device = "auto",
) -> None:
    """Go back to the weights from before training if they find more on validation images.

    Every process of a launch may call it, and measures all images by itself.

    Args:
        estimator: The trained estimator, changed in place.
        before: Its weights before training.
        data: Where validation images come from.
        motion: How they are moved.
        source: Name of the weights before training.
        seed: Determines by how much.
        device: Where to compute.
    """
    from eqrestore_lightning.evaluation._found import motion_found
    from eqrestore_lightning.transforms import RestoreTransform

    measure = _measure(motion.fields[0], next(iter(motion.fields[0].tolerances)))

    def share() -> float:
        restore = RestoreTransform(estimator).to(choose_device(device))
        found = motion_found(_batches(data, "val", device), restore, motion=motion, seed=seed)
        return found[measure]

    trained = {name: value.clone() for name, value in estimator.state_dict().items()}
    after = share()
    estimator.load_state_dict(before)
    first = share()
    if after > first:
        estimator.load_state_dict(trained)
    else:
        print(  # noqa: T201
            f"Note: Training did not improve on the weights {source!r} ({100 * first:.1f} % of the "
            f"validation {data.noun} against {100 * after:.1f} %), which are kept."
        )


def conclusion(
    trained: Mapping[str, float],
    rules: Mapping[str, Mapping[str, float]],
    motion: "Motion",
    total: int,
    noun: str,
    *,
    median: float,
) -> str:
    """Return a sentence about the result, preceded by what to try if it is not good.

    Args:
        trained: What `motion_found` measured for the trained estimator.
        rules: The same for each rule, by name; may be empty.
        motion: How test images were moved.
        total: Number of test images.
        noun: What they are called, in the plural.
        median: Of the errors of the trained estimator, in the unit of the motion's first field.

    >>> from eqrestore_lightning.motions import Shift
    >>> trained = {"shift_accuracy": 0.75, "shift_accuracy_1px": 1.0}
    >>> conclusion(trained, {}, Shift(), 40, "test images", median=0).split(" at random, ")[1]
    '30 (75.0 %) are restored exactly and 40 (100.0 %) to within 1 pixel (median error: 0 pixels).'
    """
    done = " and ".join(_DONE.get(field.name, "moved") for field in motion.fields)
    first = motion.fields[0]
    measure = _measure(first, next(iter(first.tolerances)))
    sentence = (
        f"Of {total:,} {noun}, each {done} at random, {_result(trained, motion, total)} "
        f"(median error: {median:.3g} {first.unit})"
    )
    advice = f"{_ADVICE}\n" if trained[measure] < _GOOD else ""
    if not rules:
        return f"{advice}{sentence}."
    best = max(rules, key=lambda name: rules[name][measure])
    share, note, rule = rules[best][measure], "", best.removeprefix("rule: ")
    if trained[measure] <= share < 1:
        note = f'Note: Training did not beat the rule "{rule}", which needs none.\n'
    return (
        f"{advice}{note}{sentence}; without training, the best rule ({rule}) restores "
        f"{_count(share, total)} exactly."
    )


@torch.no_grad()
def _median_error(
    batches: Iterable[tuple[Tensor, Tensor]],
    restore: "RestoreTransform",
    motion: "Motion",
    seed: int,
) -> float:
    """Return the median error of the first field of a motion, in its unit."""
    generator, name, errors = torch.Generator().manual_seed(seed), motion.fields[0].name, []
    for images, _ in batches:
        size = tuple(images.shape[2:])
        element = motion.draw(len(images), size, generator=generator)
        moved = motion.apply(images, {k: v.to(images.device) for k, v in element.items()})
        found = restore.find(moved).motion[name].cpu()
        errors.append(motion_distance(found, element[name].to(found), motion.periods(size)[name]))
    return float(torch.cat(errors).median())


def _result(found: Mapping[str, float], motion: "Motion", total: int) -> str:
    levels = {
        field.name: [
            (_within(tolerance, field.unit), _count(found[_measure(field, suffix)], total))
            for suffix, tolerance in field.tolerances.items()
        ]
        for field in motion.fields
    }
    if len(levels) == 1:
        ((first, count), *others) = next(iter(levels.values()))
        return f"{count} are restored {first}" + "".join(f" and {n} {how}" for how, n in others)
    return ", ".join(
        f"the {name} is found " + " and ".join(f"{how} for {count}" for how, count in level)
        for name, level in levels.items()
    )


def _measure(field: "Field", suffix: str) -> str:
    return f"{field.name}_accuracy{suffix}"


def _within(tolerance: float, unit: str) -> str:
    if tolerance == 0:
        return "exactly"
    return f"to within {tolerance:g} {unit.removesuffix('s') if tolerance == 1 else unit}"


def _count(share: float, total: int) -> str:
    return f"{round(share * total):,} ({100 * share:.1f} %)"


def _batches(data: "DataModule", split: "Split", device: Device) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield all images of a split; `data.test_dataloader()` would return this process's share."""
    from eqrestore_lightning.data import ImageTensors

    dataset: Any = data.dataset(split)
    batches = dataset.loader(data.batch_size) if isinstance(dataset, ImageTensors) else dataset
    return ((images.to(choose_device(device)), labels) for images, labels in batches)


def _size(data: "DataModule") -> int:
    from eqrestore_lightning.data._photo_crops import PhotoCrops

    dataset: Any = data.dataset("test")
    return len(dataset) * (dataset.batch_size if isinstance(dataset, PhotoCrops) else 1)


def _noun(data: "DataModule") -> str:
    from eqrestore_lightning.data import PhotoCropDataModule

    crops = "random crops of " if isinstance(data, PhotoCropDataModule) else ""
    return f"{crops}test {data.noun}"
