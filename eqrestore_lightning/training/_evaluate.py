"""Judge a classifier under shifts, with and without a restorer in front."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from eqrestore_lightning.functional import circular_shift, random_shift, same_class
from eqrestore_lightning.transforms import RestoreTransform


@dataclass(frozen=True)
class ShiftResult:
    """What became of a data set under random shifts.

    Attributes:
        max_shift: Largest circular shift along each axis, pixels.
        accuracy: Share of images classified rightly without restorer, from 0 to 1.
        consistency: Share whose class without restorer is that of the unshifted image.
        restored_accuracy: Share classified rightly with the restorer in front.
        restored_consistency: Share whose class with restorer is that of the unshifted image with
            restorer.
        restored_exactly: Share of images that the restorer brought back to the unshifted image.
    """

    max_shift: int
    accuracy: float
    consistency: float
    restored_accuracy: float
    restored_consistency: float
    restored_exactly: float


@torch.no_grad()
def evaluate_shifts(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    restore: RestoreTransform,
    max_shifts: Sequence[int] = tuple(range(9)),
    seed: int = 0,
    progress: bool = True,
) -> list[ShiftResult]:
    """Measure a classifier on the same images under shifts of growing size.

    Args:
        classifier: From images to logits `(batch, num_classes)`; put into eval mode for the while.
        batches: Images `(batch, channels, *spatial)` and labels `(batch,)`, gone through once.
        restore: What to put in front.
        max_shifts: Largest circular shifts along each axis, pixels; each shift is drawn uniformly.
        seed: Decides the shifts.
        progress: Whether to show a progress bar.

    Returns:
        One result for each entry of `max_shifts`.

    Raises:
        ValueError: If there are no images, or a label has no logit.

    Source: Table 1 of the paper; consistency as in Zhang, 2019.
    """
    device = next((tensor.device for tensor in classifier.parameters()), torch.device("cpu"))
    restore = copy.deepcopy(restore).to(device)
    was_training = classifier.training
    classifier.eval()
    try:
        counts, total = _count(classifier, batches, restore, max_shifts, seed, device, progress)
    finally:
        classifier.train(was_training)
    if total == 0:
        raise ValueError("Expected `batches` to hold images, but got none.")
    return [
        ShiftResult(max_shift, *shares)
        for max_shift, shares in zip(max_shifts, (counts.double() / total).tolist(), strict=True)
    ]


def _count(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    restore: RestoreTransform,
    max_shifts: Sequence[int],
    seed: int,
    device: torch.device,
    progress: bool,
) -> tuple[Tensor, int]:
    generators = [torch.Generator().manual_seed(seed) for _ in max_shifts]
    counts = torch.zeros(len(max_shifts), 5, dtype=torch.int64)
    total = 0
    for images, labels in tqdm(batches, desc="Evaluating", disable=not progress, leave=False):
        images, labels = images.to(device), labels.to(device)
        reference, restored_reference = classifier(images), classifier(restore(images))
        if len(labels) and int(labels.max()) >= reference.shape[1]:
            raise ValueError(
                f"Expected labels below the number of logits, {reference.shape[1]}, "
                f"but got {int(labels.max())}."
            )
        for row, max_shift in enumerate(max_shifts):
            shift = random_shift(
                len(images),
                max_shift,
                num_spatial_dims=images.ndim - 2,
                generator=generators[row],
            )
            shifted = circular_shift(images, shift.to(device))
            restored = restore(shifted)
            logits, restored_logits = classifier(shifted), classifier(restored)
            right = (
                logits.argmax(1) == labels,
                same_class(logits, reference),
                restored_logits.argmax(1) == labels,
                same_class(restored_logits, restored_reference),
                (restored == images).flatten(1).all(1),
            )
            counts[row] += torch.stack([each.sum() for each in right]).cpu()
        total += len(images)
    return counts, total


def shift_table(
    results: Sequence[ShiftResult], *, reference: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Lay results out as a Markdown table, percent, one column for each size of shift.

    Args:
        results: What `evaluate_shifts` gave.
        reference: Further rows, such as published figures: name to percentages, one for each
            result.

    Raises:
        ValueError: If a row of `reference` has another length.

    >>> print(shift_table([ShiftResult(4, 0.75, 0.8, 0.9, 1.0, 1.0)], reference={"paper": [76.6]}))
    | shifts up to, pixels | 4 |
    |---|---|
    | accuracy, no restorer | 75.00 |
    | accuracy, restored | 90.00 |
    | same class as unshifted, no restorer | 80.00 |
    | same class as unshifted, restored | 100.00 |
    | image restored exactly | 100.00 |
    | paper | 76.60 |
    """
    rows: dict[str, Sequence[float]] = {
        "accuracy, no restorer": [100 * result.accuracy for result in results],
        "accuracy, restored": [100 * result.restored_accuracy for result in results],
        "same class as unshifted, no restorer": [100 * result.consistency for result in results],
        "same class as unshifted, restored": [
            100 * result.restored_consistency for result in results
        ],
        "image restored exactly": [100 * result.restored_exactly for result in results],
        **(reference or {}),
    }
    lines = [
        "| shifts up to, pixels | "
        + " | ".join(str(result.max_shift) for result in results)
        + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name, values in rows.items():
        if len(values) != len(results):
            raise ValueError(
                f"Expected {len(results)} figures in the row {name!r}, but got {len(values)}."
            )
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines)
