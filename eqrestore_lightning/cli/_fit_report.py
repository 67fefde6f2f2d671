"""What `eqrestore fit` prints about the data before training and about the result after it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.cli._fit_data import FitData
from eqrestore_lightning.data import ImageTensors, PhotoCropDataModule
from eqrestore_lightning.data._module import Split
from eqrestore_lightning.data._problems import find_problems
from eqrestore_lightning.evaluation._found import motion_found
from eqrestore_lightning.evaluation._rules import harmonic_rule, seam_rules
from eqrestore_lightning.functional._errors import motion_distance
from eqrestore_lightning.motions import Field, Motion, Shift
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.transforms import RestoreTransform

_GOOD = 0.5  # share found, below which it is said what to try
_ADVICE = (
    "Note: Fewer than half are found. Try more images, more steps (`--steps`), or another network "
    "(`--network`): border or centered for objects in a blank border, seam or photo for what fills "
    "the frame. `eqrestore inspect` names images that cannot be restored."
)
_DONE = {"shift": "shifted", "angle": "rotated", "quarters": "turned", "mirrored": "mirrored"}


def describe_data(data: FitData) -> None:
    """Print how the data are split, which of them are kept together, and their problems."""
    print(data.describe_split())  # noqa: T201
    for problem in find_problems(data):
        print(f"Note: {problem}")  # noqa: T201


def report(estimator: Estimator, data: FitData, motion: Motion, *, seed: int, device: str) -> str:
    """Return how well moved test images are restored, also by rules that need no training.

    Every process of a launch may call it, and measures all images by itself.
    """
    trained = RestoreTransform(estimator).to(device)
    rules: dict[str, Any] = {}
    if isinstance(motion, Shift):
        dims = estimator.num_spatial_dims
        rules |= seam_rules(estimator.in_channels, axes=motion.axes, num_spatial_dims=dims)
        rules |= harmonic_rule(axes=motion.axes)
    found = {
        name: motion_found(all_batches(data, "test", device), restorer, motion=motion, seed=seed)
        for name, restorer in {"": trained, **rules}.items()
    }
    median = _median_error(all_batches(data, "test", device), trained, motion, seed)
    total, noun = len(data.dataset("test")), f"test {data.noun}"
    if isinstance(data, PhotoCropDataModule):
        total, noun = total * data.batch_size, f"random crops of {noun}"
    return conclusion(found.pop(""), found, motion, total, noun, median=median)


def keep_better(
    estimator: Estimator,
    before: Mapping[str, Tensor],
    data: FitData,
    motion: Motion,
    source: str,
    *,
    seed: int,
    device: str,
) -> None:
    """Go back to the weights from before training unless others find more on validation images."""
    measure = _measure(motion.fields[0], next(iter(motion.fields[0].tolerances)))

    def share() -> float:
        restore = RestoreTransform(estimator).to(device)
        return motion_found(all_batches(data, "val", device), restore, motion=motion, seed=seed)[
            measure
        ]

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
    motion: Motion,
    total: int,
    noun: str,
    *,
    median: float,
) -> str:
    """Say in a sentence what `motion_found` has measured, after what to try if it is not good.

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
    restore: RestoreTransform,
    motion: Motion,
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


def _result(found: Mapping[str, float], motion: Motion, total: int) -> str:
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


def _measure(field: Field, suffix: str) -> str:
    return f"{field.name}_accuracy{suffix}"


def _within(tolerance: float, unit: str) -> str:
    if tolerance == 0:
        return "exactly"
    return f"to within {tolerance:g} {unit.removesuffix('s') if tolerance == 1 else unit}"


def _count(share: float, total: int) -> str:
    return f"{round(share * total):,} ({100 * share:.1f} %)"


def all_batches(data: FitData, split: Split, device: str) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield all images of a split; `data.test_dataloader()` would return this process's share."""
    dataset: Any = data.dataset(split)
    loader = dataset.loader(data.batch_size) if isinstance(dataset, ImageTensors) else dataset
    return ((images.to(device), labels) for images, labels in loader)
