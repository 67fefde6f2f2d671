"""Evaluate a classifier on moved images, with and without restorers in front."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from eqrestore_lightning.evaluation._measures import Outcome, build_measures
from eqrestore_lightning.evaluation._restorers import (
    Restorer,
    draw_on,
    is_comparable,
    named_restorers,
    restore_with,
)
from eqrestore_lightning.evaluation._results import Evaluation, Result, label_to_number
from eqrestore_lightning.motions import Element, Motion, Shift


@torch.no_grad()
def evaluate(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    restorers: Mapping[str, Restorer],
    motions: Mapping[str, Motion],
    axis: str = "shifts up to, pixels",
    crop: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure a classifier on the same images under several motions, behind several restorers.

    Under each motion every image is moved twice, by two draws. The measures are `accuracy` after
    the first; `consistency`, how often both lead to the same class; `stability`, the product of
    these two; `agreement`, how often the class is that of the unmoved image without a restorer;
    and, for restorers that find the fields that the motion moves, the metrics of every field after
    the first draw, such as `shift_accuracy`. `register_measure` adds others.

    An image that is bitwise equal to the unmoved one, or to what the restorer makes of it, is not
    classified again.

    Args:
        classifier: From images to logits `(batch, num_classes)`; switched to eval mode while this
            runs.
        batches: Images `(batch, channels, *spatial)` and labels `(batch,)`, iterated over once; the
            size of the images may differ between batches.
        restorers: Name to what is placed in front: anything with `find` and `undo`, such as a
            `RestoreTransform`, or a function from images to restored images.
        motions: Label to motion, such as `shift_motions()` or `turn_motions()`; a label that is a
            number is a place on the x axis.
        axis: What the labels count, with its unit.
        crop: After images are moved, this many pixels are cut from each side, so that what lies
            there enters where content leaves, as for a camera that moves; a restorer should then
            find no motion.
        seed: Determines the draws, which are the same for every restorer.
        progress: Whether to show a progress bar.

    Returns:
        For each motion, a result without a restorer, then one for each restorer.

    Raises:
        TypeError: If a restorer is neither callable nor finds motions.
        ValueError: If there are no images or no motions, a label has no logit, a restorer is called
            `"no restorer"`, a motion cannot move the images, or `crop` does not fit.

    Source: Table 1 of the paper; consistency as in Zhang, 2019, and Chaman and Dokmanić, 2021.

    >>> from eqrestore_lightning.evaluation import Rule, shift_motions
    >>> images, labels = torch.eye(1, 5).expand(8, 1, 5), torch.zeros(8, dtype=torch.int64)
    >>> evaluation = evaluate(
    ...     nn.Flatten(),  # the class is the place of the bright pixel
    ...     [(images, labels)],
    ...     restorers={"restored": Rule(lambda x: x.argmax(2))},
    ...     motions=shift_motions([0, 2], axes=(-1,)),
    ...     progress=False,
    ... )
    >>> evaluation.get("restored", "2").measures["accuracy"]
    1.0
    """
    if not motions:
        raise ValueError("Expected `motions` to hold a motion, but got none.")
    device = next((each.device for each in classifier.parameters()), torch.device("cpu"))
    run = _Run(classifier, named_restorers(restorers, device), motions, crop, seed)
    was_training = classifier.training
    classifier.eval()
    total = 0
    try:
        for images, labels in tqdm(batches, desc="Evaluating", disable=not progress, leave=False):
            if len(images):
                run.add(images.to(device), labels.to(device))
            total += len(images)
    finally:
        classifier.train(was_training)
    if total == 0:
        raise ValueError("Expected `batches` to hold images, but got none.")
    return run.evaluation(axis)


@dataclass(frozen=True)
class _Known:
    """Images that were classified already, and their logits."""

    images: Tensor
    logits: Tensor


@dataclass(frozen=True)
class _Draw:
    """Images moved by one draw, and how; `element` is zero for crops, which wrap nothing."""

    images: Tensor
    element: Element


class _Run:
    """Measure batch after batch, under every motion and behind every restorer."""

    def __init__(
        self,
        classifier: nn.Module,
        restorers: Mapping[str, Restorer],
        motions: Mapping[str, Motion],
        crop: int,
        seed: int,
    ) -> None:
        _check_crop(crop, motions.values())
        self.classifier = classifier
        self.restorers = restorers
        self.motions = motions
        self.crop = crop
        self.generators = {label: torch.Generator().manual_seed(seed) for label in motions}
        self.measures = {
            (label, name): build_measures(motion)
            for label, motion in motions.items()
            for name in restorers
        }

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Measure one batch."""
        unmoved = self._cut(images)
        known = [_Known(unmoved, self._logits(unmoved, labels))]
        references = {}
        for name, restorer in self.restorers.items():
            restored, _ = restore_with(restorer, unmoved)
            references[name] = [*known, _Known(restored, self._classify(restored, known))]
        for label, motion in self.motions.items():
            motion.check(tuple(images.shape[2:]))
            draws = self._draws(motion, images, self.generators[label])
            for name, restorer in self.restorers.items():
                outcome = self._outcome(motion, draws, restorer, references[name], labels)
                for measure in self.measures[label, name].values():
                    measure.update(outcome)

    def evaluation(self, axis: str) -> Evaluation:
        """Return the results over all batches."""
        results = [
            Result(
                restorer=name,
                motion=label,
                at=label_to_number(label),
                measures={k: each.compute() for k, each in measures.items() if each.updated},
            )
            for (label, name), measures in self.measures.items()
        ]
        units = {
            name: measure.unit
            for measures in self.measures.values()
            for name, measure in measures.items()
            if measure.unit and measure.updated
        }
        return Evaluation(axis, results, units)

    def _outcome(
        self,
        motion: Motion,
        draws: tuple[_Draw, _Draw],
        restorer: Restorer,
        known: Sequence[_Known],
        labels: Tensor,
    ) -> Outcome:
        first, second = draws
        restored, found = restore_with(restorer, first.images)
        logits = self._classify(restored, known)
        again = logits
        if second is not first:
            again = self._classify(restore_with(restorer, second.images)[0], known)
        outcome: dict[str, Any] = {
            "labels": labels.cpu(),
            "unmoved": known[0].logits.cpu(),
            "first": logits.cpu(),
            "second": again.cpu(),
        }
        comparable = is_comparable(found, first.element)
        return Outcome(
            **outcome,
            found={name: value.cpu() for name, value in found.items()} if comparable else {},
            target={name: value.cpu() for name, value in first.element.items()},
            periods=motion.periods(tuple(first.images.shape[2:])),
        )

    def _draws(
        self, motion: Motion, images: Tensor, generator: torch.Generator
    ) -> tuple[_Draw, _Draw]:
        """Move images by two draws; both are one object if they are equal."""
        one, other = (draw_on(motion, images, generator) for _ in range(2))
        still = motion.still(len(images), device=images.device) if self.crop else None
        first = _Draw(self._cut(motion.apply(images, one)), still or one)
        if all(torch.equal(one[name], other[name]) for name in one):
            return first, first
        return first, _Draw(self._cut(motion.apply(images, other)), still or other)

    def _cut(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        if 2 * self.crop >= min(size):
            raise ValueError(
                f"Expected `crop` to be below half of the size of the images, {size}, "
                f"but got {self.crop}."
            )
        for axis, length in enumerate(size, start=2):
            x = x.narrow(axis, self.crop, length - 2 * self.crop)
        return x

    def _logits(self, x: Tensor, labels: Tensor) -> Tensor:
        """Compute logits, and check that every label has one."""
        logits: Tensor = self.classifier(x)
        if logits.ndim != 2 or len(logits) != len(x):
            raise ValueError(
                f"Expected `classifier` to return logits of shape (batch, num_classes), "
                f"but got {tuple(logits.shape)} for {len(x)} images."
            )
        if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
            raise ValueError(
                f"Expected labels from 0 to {logits.shape[1] - 1}, as there are "
                f"{logits.shape[1]} logits, but got {int(labels.min())} to {int(labels.max())}."
            )
        return logits

    def _classify(self, x: Tensor, known: Sequence[_Known]) -> Tensor:
        """Return logits of images, looking up those that are known."""
        logits = torch.zeros_like(known[0].logits)
        unknown = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for each in known:
            if each.images.shape == x.shape:
                same = (x == each.images).flatten(1).all(1)
                logits[same] = each.logits[same]
                unknown &= ~same
        if unknown.any():
            logits[unknown] = self.classifier(x[unknown])
        return logits


def _check_crop(crop: int, motions: Iterable[Motion]) -> None:
    if crop < 0:
        raise ValueError(f"Expected `crop` to be at least 0, but got {crop}.")
    for part in (part for motion in motions for part in motion.parts):
        if crop and isinstance(part, Shift) and (part.max_shift is None or part.max_shift > crop):
            raise ValueError(
                f"Expected `crop` to be at least the largest shift, "
                f"{'half of each axis' if part.max_shift is None else part.max_shift}, "
                f"so that nothing wraps around, but got {crop}."
            )
