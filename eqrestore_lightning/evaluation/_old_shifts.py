"""Judge a classifier under shifts, with and without restorers in front."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from eqrestore_lightning.functional import circular_shift, random_shift, zero_fill_shift
from eqrestore_lightning.transforms import RestoreTransform

ShiftKind: TypeAlias = Literal["circular", "zeros", "crop"]
Restorer: TypeAlias = RestoreTransform | Callable[[Tensor], Tensor]
NO_RESTORER = "no restorer"


@dataclass(frozen=True)
class ShiftResult:
    """What became of a data set under random shifts, behind one restorer.

    Attributes:
        restorer: Its name.
        kind: What entered where the image left: `"circular"`, `"zeros"` or `"crop"`.
        max_shift: Largest shift along each axis, pixels.
        accuracy: Share of images classified rightly, from 0 to 1.
        consistency: Share of images put into the same class under two shifts.
        exact: Share of images whose estimated shift was the applied one; for crops, which wrap
            nothing around, share left in place.
    """

    restorer: str
    kind: ShiftKind
    max_shift: int
    accuracy: float
    consistency: float
    exact: float

    @property
    def stability(self) -> float:
        """Accuracy times consistency."""
        return self.accuracy * self.consistency


@torch.no_grad()
def evaluate_shifts(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    restorers: Mapping[str, Restorer],
    max_shifts: Sequence[int] = tuple(range(9)),
    kind: ShiftKind = "circular",
    seed: int = 0,
    progress: bool = True,
) -> list[ShiftResult]:
    """Measure a classifier on the same images under shifts of growing size.

    Each image is shifted twice, each shift drawn uniformly from `-m … m` on each axis: accuracy is
    that under the first, consistency compares both. An image that a restorer brings back to what it
    makes of the unshifted one is not classified again.

    Args:
        classifier: From images to logits `(batch, num_classes)`; put into eval mode for the while.
        batches: Images `(batch, channels, *spatial)` and labels `(batch,)`, gone through once.
        restorers: Name to what is put in front: a `RestoreTransform`, or a function from images to
            estimated shifts, int64 of shape `(batch, num_spatial_dims)`. For those that find
            rotations as well there is `evaluate_rotations`.
        max_shifts: Largest shifts along each axis, pixels.
        kind: What enters where the image leaves: its other side, zeros, or, for `"crop"`, what lies
            there: the classifier and the restorers see a window that is smaller than the images by
            the largest of `max_shifts` on each side, and the window moves.
        seed: Decides the shifts.
        progress: Whether to show a progress bar.

    Returns:
        For each of `max_shifts`, one result without restorer, then one for each restorer.

    Raises:
        ValueError: If there are no images, a label has no logit, a restorer is called
            `"no restorer"` or finds other things than shifts, or `kind` is another word.

    Source: Table 1 of the paper; consistency as in Zhang, 2019, and Chaman and Dokmanić, 2021.
    """
    if kind not in get_args(ShiftKind):
        raise ValueError(f"Expected `kind` to be one of {get_args(ShiftKind)}, but got {kind!r}.")
    judge = _Judge(classifier, restorers, kind, max_shifts, seed)
    total = judge_batches(judge.add, classifier, batches, progress=progress)
    return [
        ShiftResult(name, kind, max_shift, *(judge.counts[row, column] / total).tolist())
        for row, max_shift in enumerate(max_shifts)
        for column, name in enumerate(judge.estimates)
    ]


def device_of(classifier: nn.Module) -> torch.device:
    """Say where a classifier's parameters are; on the CPU if it has none."""
    return next((tensor.device for tensor in classifier.parameters()), torch.device("cpu"))


def judge_batches(
    add: Callable[[Tensor, Tensor], None],
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    progress: bool,
) -> int:
    """Hand batches to `add`, on the device of the classifier, which is in eval mode meanwhile.

    Returns:
        Number of images.

    Raises:
        ValueError: If there are none.
    """
    device = device_of(classifier)
    was_training = classifier.training
    classifier.eval()
    total = 0
    try:
        for images, labels in tqdm(batches, desc="Evaluating", disable=not progress, leave=False):
            add(images.to(device), labels.to(device))
            total += len(images)
    finally:
        classifier.train(was_training)
    if total == 0:
        raise ValueError("Expected `batches` to hold images, but got none.")
    return total


def check_names(restorers: Iterable[str]) -> None:
    """Refuse a restorer that is called as what stands for none."""
    if NO_RESTORER in restorers:
        raise ValueError(f"Expected another name for a restorer than {NO_RESTORER!r}.")


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that have no logit."""
    if len(labels) and int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"Expected labels below the number of logits, {logits.shape[1]}, "
            f"but got {int(labels.max())}."
        )


class _Judge:
    """Count what becomes of batch after batch."""

    def __init__(
        self,
        classifier: nn.Module,
        restorers: Mapping[str, Restorer],
        kind: ShiftKind,
        max_shifts: Sequence[int],
        seed: int,
    ) -> None:
        check_names(restorers)
        device = device_of(classifier)
        self.classifier = classifier
        self.estimates: dict[str, Callable[[Tensor], Tensor]] = {NO_RESTORER: _no_shift}
        for name, restorer in restorers.items():
            if isinstance(restorer, RestoreTransform):
                _check_finds_shifts(name, restorer)
                restorer = copy.deepcopy(restorer).to(device).estimate
            self.estimates[name] = restorer
        self.kind = kind
        self.max_shifts = max_shifts
        self.generators = [torch.Generator().manual_seed(seed) for _ in max_shifts]
        self.counts = torch.zeros(len(max_shifts), len(self.estimates), 3, dtype=torch.float64)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Count one batch, under every size of shift and behind every restorer."""
        dims = images.ndim - 2
        unshifted = self._move(images, torch.zeros(len(images), dims, dtype=torch.int64))
        logits = self.classifier(unshifted)
        check_labels(labels, logits)
        known = [(unshifted, logits.argmax(1))]
        references = {}
        for name, estimate in self.estimates.items():
            restored = circular_shift(unshifted, -estimate(unshifted))
            references[name] = [*known, (restored, self._classify(restored, known))]
        for row, max_shift in enumerate(self.max_shifts):
            shifts = [
                random_shift(
                    len(images),
                    max_shift,
                    num_spatial_dims=dims,
                    generator=self.generators[row],
                )
                for _ in range(2)
            ]
            moved = [self._move(images, shift) for shift in shifts]
            for column, (name, estimate) in enumerate(self.estimates.items()):
                estimated = [estimate(x) for x in moved]
                classes, others = (
                    self._classify(circular_shift(x, -shift), references[name])
                    for x, shift in zip(moved, estimated, strict=True)
                )
                exact = self._is_exact(estimated[0], shifts[0], moved[0].shape[2:])
                right = (classes == labels, classes == others, exact)
                self.counts[row, column] += torch.stack([each.sum() for each in right]).cpu()

    def _move(self, images: Tensor, shift: Tensor) -> Tensor:
        shift = shift.to(images.device)
        if self.kind == "zeros":
            return zero_fill_shift(images, shift)
        moved = circular_shift(images, shift)
        margin = max(self.max_shifts, default=0) if self.kind == "crop" else 0
        for axis in range(2, images.ndim):
            moved = moved.narrow(axis, margin, images.shape[axis] - 2 * margin)
        return moved

    def _classify(self, x: Tensor, known: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Give the classes of images, looking up those that are known."""
        classes = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        unknown = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for images, their_classes in known:
            same = (x == images).flatten(1).all(1)
            classes = torch.where(same, their_classes, classes)
            unknown &= ~same
        if unknown.any():
            classes[unknown] = self.classifier(x[unknown]).argmax(1)
        return classes

    def _is_exact(self, estimated: Tensor, shift: Tensor, size: Sequence[int]) -> Tensor:
        expected = torch.zeros_like(estimated) if self.kind == "crop" else shift.to(estimated)
        sizes = torch.tensor(size, device=estimated.device)
        return ((estimated - expected) % sizes == 0).all(1)


def _check_finds_shifts(name: str, restorer: RestoreTransform) -> None:
    found = restorer.estimator.element_names
    if not set(found) <= {"deep", "down", "right"}:
        raise ValueError(
            f"Expected the restorer {name!r} to find shifts alone, but it finds "
            f"({', '.join(found)}); `evaluate_rotations` (`--kind rotation`) takes those."
        )


def _no_shift(x: Tensor) -> Tensor:
    return torch.zeros(len(x), x.ndim - 2, dtype=torch.int64, device=x.device)


def shift_table(
    results: Sequence[ShiftResult], *, reference: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Lay results out as a Markdown table, percent, one column for each size of shift.

    Args:
        results: What `evaluate_shifts` gave.
        reference: Further rows, such as published figures: name to percentages, one for each size.

    Raises:
        ValueError: If a row of `reference` has another length, or a result is missing.

    >>> results = [ShiftResult("no restorer", "circular", 4, 0.75, 0.8, 0.0),
    ...            ShiftResult("restored", "circular", 4, 0.9, 1.0, 0.99)]
    >>> print(shift_table(results, reference={"paper, restored": [88.18]}))
    | shifts up to, pixels | 4 |
    |---|---|
    | accuracy, no restorer | 75.00 |
    | accuracy, restored | 90.00 |
    | paper, restored | 88.18 |
    | consistency, no restorer | 80.00 |
    | consistency, restored | 100.00 |
    | stability, no restorer | 60.00 |
    | stability, restored | 90.00 |
    | shift found exactly, restored | 99.00 |
    """
    sizes = sorted({result.max_shift for result in results})
    names = list(dict.fromkeys(result.restorer for result in results))
    rows: dict[str, Sequence[float]] = {}
    for measure in ("accuracy", "consistency", "stability", "exact"):
        label = "shift found exactly" if measure == "exact" else measure
        for name in names:
            if measure != "exact" or name != NO_RESTORER:
                rows[f"{label}, {name}"] = [
                    100 * getattr(result, measure) for result in results if result.restorer == name
                ]
        if measure == "accuracy":
            rows.update(reference or {})
    lines = ["| shifts up to, pixels | " + " | ".join(map(str, sizes)) + " |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for name, values in rows.items():
        if len(values) != len(sizes):
            raise ValueError(
                f"Expected {len(sizes)} figures in the row {name!r}, but got {len(values)}."
            )
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines)
