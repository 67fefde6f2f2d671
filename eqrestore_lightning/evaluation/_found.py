"""How well motions are found, what a gate gains and costs, and whether invariance is exact."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from eqrestore_lightning.evaluation._measures import compute_alone
from eqrestore_lightning.evaluation._restorers import Finder, Rule, draw_on, is_comparable
from eqrestore_lightning.metrics import motion_metrics
from eqrestore_lightning.motions import Motion, Shift
from eqrestore_lightning.transforms import Found, RestoreTransform

_QUANTILES = (0.0, 0.01, 0.02, 0.05, 0.1)


@runtime_checkable
class HasLoader(Protocol):
    """A data set that serves batches, such as `ImageTensors`."""

    def loader(self, batch_size: int) -> Iterable[Any]:
        """Return an iterable of batches."""


Batches: TypeAlias = HasLoader | Iterable[Any]
"""A data set with `loader`, or batches: images, or tuples that begin with them."""


@torch.no_grad()
def motion_found(
    batches: Batches,
    restorer: Finder,
    *,
    motion: Motion,
    batch_size: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Move every image at random, and measure how well the motion is found.

    Args:
        batches: Images, see `Batches`; labels are not needed.
        restorer: Finds the fields that `motion` moves.
        motion: What to draw from.
        batch_size: Images at a time, of a data set.
        seed: Determines the draws.

    Returns:
        The metrics of every field of the motion, by name, such as `shift_accuracy`: shares from
        0 to 1, distances in the unit of the field.

    Raises:
        ValueError: If there are no images, or the restorer finds other fields.

    >>> signals = torch.tensor([[[9, 1, 0, 2, 0]], [[9, 0, 3, 0, 0]]])
    >>> motion_found([signals], Rule(lambda x: x.argmax(2)), motion=Shift((-1,)))
    {'shift_accuracy': 1.0, 'shift_accuracy_1px': 1.0, 'shift_distance': 0.0}
    """
    generator = torch.Generator().manual_seed(seed)
    metrics: Mapping[str, dict[str, Metric]] = {
        field.name: motion_metrics(field) for field in motion.fields
    }
    for images in _some(map(_images, _batches(batches, batch_size))):
        target = draw_on(motion, images, generator)
        found = restorer.find(motion.apply(images, target)).motion
        if not is_comparable(found, target):
            raise ValueError(
                f"Expected a restorer that finds {_shapes(target)}, but got {_shapes(found)}."
            )
        for name, period in motion.periods(tuple(images.shape[2:])).items():
            for metric in metrics[name].values():
                metric.update(found[name].cpu(), target[name].to(found[name]).cpu(), period)
    return {
        name: round(float(compute_alone(metric).compute()), 7)
        for of_field in metrics.values()
        for name, metric in of_field.items()
    }


def shifts_found(
    batches: Batches,
    restorer: Finder | Callable[[Tensor], Tensor],
    *,
    motion: Shift | None = None,
    batch_size: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Shift every image at random, and measure how often the shift is found.

    Args:
        batches: Images, see `Batches`; labels are not needed.
        restorer: Finds shifts; or a function from images to shifts, int64 of shape
            `(batch, num_axes)`.
        motion: What to draw from; by default circular shifts by up to half of every axis.
        batch_size: Images at a time, of a data set.
        seed: Determines the shifts.

    Returns:
        Percentages found exactly, `"exact, %"`, and to within a pixel on each axis, `"≤ 1 px, %"`.

    Raises:
        ValueError: If there are no images, or the restorer finds other fields.

    >>> signals = torch.tensor([[[9, 1, 0, 2, 0]], [[9, 0, 3, 0, 0]]])
    >>> shifts_found([signals], lambda x: x.argmax(2))
    {'exact, %': 100.0, '≤ 1 px, %': 100.0}
    """
    images = iter(_some(map(_images, _batches(batches, batch_size))))
    first = next(images)
    motion = motion or Shift(tuple(range(2 - first.ndim, 0)))
    finder = restorer if isinstance(restorer, Finder) else Rule(restorer, motion=motion)
    found = motion_found(chain([first], images), finder, motion=motion, seed=seed)
    return {
        "exact, %": 100 * found["shift_accuracy"],
        "≤ 1 px, %": 100 * found["shift_accuracy_1px"],
    }


@torch.no_grad()
def gate_rows(
    classifier: nn.Module | None,
    batches: Batches,
    restore: RestoreTransform,
    *,
    motion: Motion,
    quantiles: Sequence[float] = _QUANTILES,
    min_margins: Sequence[float] | None = None,
    batch_size: int = 250,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Measure the gains and costs of a gate that leaves images of small margin as they are.

    Args:
        classifier: From images to logits `(batch, num_classes)`; switched to eval mode while this
            runs. Without one, the images are counted that equal the unmoved ones bit for bit.
        batches: Images, with labels if there is a classifier, see `Batches`.
        restore: The restorer, with a `min_margin` of 0.
        motion: Moves the images for the last two columns.
        quantiles: Share of the unmoved images whose margin is to be below the gate, one for each
            row.
        min_margins: Gates to try instead of those at `quantiles`.
        batch_size: Images at a time, of a data set.
        seed: Determines the draws.

    Returns:
        For each gate its `min_margin`, and, of unmoved and of moved images, the percentages that
        are left as they are, and that are classified correctly (or equal the unmoved ones).

    Raises:
        ValueError: If there are no images, or `restore` has a gate.
    """
    if restore.min_margin > 0:
        raise ValueError(
            f"Expected `restore` to have no gate, but its `min_margin` is {restore.min_margin}."
        )
    generator = torch.Generator().manual_seed(seed)
    views: dict[str, list[Tensor]] = {"unmoved": [], "moved": []}
    was_training = classifier is not None and classifier.training
    if classifier is not None:
        classifier.eval()
    try:
        for batch in _some(_batches(batches, batch_size)):
            images = _images(batch)
            moved = motion.apply(images, draw_on(motion, images, generator))
            for name, x in (("unmoved", images), ("moved", moved)):
                found: Found = restore.find(x)
                right = [
                    (each == images).flatten(1).all(1)
                    if classifier is None
                    else classifier(each).argmax(1) == batch[1]
                    for each in (restore.undo(x, found), x)
                ]
                views[name].append(
                    torch.stack([found.margin.cpu(), *(r.double().cpu() for r in right)])
                )
    finally:
        if classifier is not None:
            classifier.train(was_training)
    measured = {name: torch.cat(parts, dim=1) for name, parts in views.items()}
    margin = measured["unmoved"][0]
    gates = [float(margin.quantile(q)) if q else 0.0 for q in quantiles]
    what = "as before" if classifier is None else "accuracy"
    return [
        _gate_row(gate, measured, what) for gate in (gates if min_margins is None else min_margins)
    ]


@torch.no_grad()
def count_differing(
    restore: Callable[[Tensor], Tensor],
    images: Tensor,
    views: Callable[[Tensor], Iterable[Tensor]],
    *,
    batch_size: int = 500,
) -> dict[str, int]:
    """Restore images moved in several ways, and compare bit for bit with the first one, restored.

    Args:
        restore: From images to restored images.
        images: Shape `(num_images, channels, *spatial)`.
        views: From a batch to the same images, moved in several ways.
        batch_size: Images restored at a time.

    Returns:
        Numbers of `"images"` and of `"pairs"` of one with its first view, and how many restored
        ones `"differ"`.

    >>> signals = torch.tensor([[[5, 1, 2]], [[4, 4, 0]]])
    >>> def all_shifts(x):
    ...     return (x.roll(shift, 2) for shift in range(3))
    >>> count_differing(Rule(lambda x: x.argmax(2)), signals, all_shifts)
    {'images': 2, 'pairs': 4, 'differ': 1}
    """
    pairs = differ = 0
    for batch in torch.split(images, batch_size):
        moved = iter(views(batch))
        first = restore(next(moved))
        for view in moved:
            differ += int((restore(view) != first).flatten(1).any(1).sum())
            pairs += len(batch)
    return {"images": len(images), "pairs": pairs, "differ": differ}


def _gate_row(gate: float, measured: Mapping[str, Tensor], what: str) -> dict[str, float]:
    row = {"`min_margin`": float(gate)}
    for name, (margin, restored, left) in measured.items():
        trusted = margin >= gate
        row[f"{name}: left as they are, %"] = 100 * float((~trusted).double().mean())
        row[f"{name}: {what}, %"] = 100 * float(torch.where(trusted, restored, left).mean())
    return row


def _batches(batches: Batches, batch_size: int) -> Iterable[Any]:
    return batches.loader(batch_size) if isinstance(batches, HasLoader) else batches


def _some(batches: Iterable[Any]) -> Iterable[Any]:
    """Yield batches, and fail if there are none."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise ValueError("Expected `batches` to hold images, but got none.")


def _images(batch: Any) -> Tensor:
    images: Tensor = batch if isinstance(batch, Tensor) else batch[0]
    return images


def _shapes(element: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in element.items()}
