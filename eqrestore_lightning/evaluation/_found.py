"""How well motions are found, what a gate gains and costs, and whether invariance is exact.

Images come as batches, tensors or tuples that begin with them, or as a data set with `loader`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from eqrestore_lightning.evaluation._measures import compute_alone
from eqrestore_lightning.evaluation._restorers import Finder, draw_on, is_comparable
from eqrestore_lightning.metrics._motion import motion_metrics
from eqrestore_lightning.motions import Motion, Shift
from eqrestore_lightning.transforms import RestoreTransform

_QUANTILES = (0.0, 0.01, 0.02, 0.05, 0.1)


@torch.no_grad()
def motion_found(
    batches: Any, restorer: Finder, *, motion: Motion, seed: int = 0
) -> dict[str, float]:
    """Move every image at random, and return the metrics of every field, such as `shift_accuracy`.

    >>> signals = torch.tensor([[[9, 1, 0, 2, 0]], [[9, 0, 3, 0, 0]]])
    >>> from eqrestore_lightning.evaluation._restorers import Rule
    >>> motion_found([signals], Rule(lambda x: x.argmax(2)), motion=Shift((-1,)))
    {'shift_accuracy': 1.0, 'shift_accuracy_1px': 1.0, 'shift_distance': 0.0}
    """
    generator = torch.Generator().manual_seed(seed)
    metrics: Mapping[str, dict[str, Metric]] = {
        field.name: motion_metrics(field) for field in motion.fields
    }
    for images in map(_images, _batches(batches, 500)):
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


def shifts_found(batches: Any, restorer: Finder, *, seed: int = 0) -> dict[str, float]:
    """Shift images by up to half of every axis, and return the percentages found, as a row."""
    images = map(_images, _batches(batches, 500))
    first = next(images)
    motion = Shift(tuple(range(2 - first.ndim, 0)))
    found = motion_found(chain([first], images), restorer, motion=motion, seed=seed)
    return {
        "exact, %": 100 * found["shift_accuracy"],
        "≤ 1 px, %": 100 * found["shift_accuracy_1px"],
    }


@torch.no_grad()
def gate_rows(
    classifier: nn.Module | None,
    batches: Any,
    restore: RestoreTransform,
    *,
    motion: Motion,
    min_margins: Sequence[float] | None = None,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Measure the gains and costs of a gate that leaves images of small margin as they are.

    Returns a row for each gate, of unmoved and of moved images: the percentages that are left as
    they are and that are classified correctly, or, without a classifier, equal the unmoved ones.
    By default the gates leave 0 to 10 % of the unmoved images as they are.
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
        for batch in _batches(batches, 250):
            images = _images(batch)
            moved = motion.apply(images, draw_on(motion, images, generator))
            for name, x in (("unmoved", images), ("moved", moved)):
                found = restore.find(x)
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
    if min_margins is None:
        margin = measured["unmoved"][0]
        min_margins = [float(margin.quantile(q)) if q else 0.0 for q in _QUANTILES]
    what = "as before" if classifier is None else "accuracy"
    return [_gate_row(gate, measured, what) for gate in min_margins]


@torch.no_grad()
def count_differing(
    restore: Callable[[Tensor], Tensor],
    images: Tensor,
    views: Callable[[Tensor], Iterable[Tensor]],
    *,
    batch_size: int = 500,
) -> dict[str, int]:
    """Restore all views of images, and count pairs with the first view that differ in any bit.

    >>> signals = torch.tensor([[[5, 1, 2]], [[4, 4, 0]]])
    >>> def all_shifts(x):
    ...     return (x.roll(shift, 2) for shift in range(3))
    >>> count_differing(lambda x: x.sort(2).values, signals, all_shifts)
    {'images': 2, 'pairs': 4, 'differ': 0}
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


def _batches(batches: Any, batch_size: int) -> Iterable[Any]:
    """Yield batches, and fail if there are none."""
    empty = True
    for batch in batches.loader(batch_size) if hasattr(batches, "loader") else batches:
        empty = False
        yield batch
    if empty:
        raise ValueError("Expected `batches` to hold images, but got none.")


def _images(batch: Any) -> Tensor:
    images: Tensor = batch if isinstance(batch, Tensor) else batch[0]
    return images


def _shapes(element: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in element.items()}
