"""Evaluate a classifier on moved images, with and without restorers in front."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from eqrestore_lightning.evaluation._classifier import Classifier, labeled_images
from eqrestore_lightning.evaluation._measures import Outcome, build_measures
from eqrestore_lightning.evaluation._restorers import (
    Restorer,
    draw_on,
    is_comparable,
    named_restorers,
    restore_with,
)
from eqrestore_lightning.evaluation._results import Evaluation, Result, label_to_number
from eqrestore_lightning.functional._rotation import Fill
from eqrestore_lightning.motions import Element, Motion, Product, Shift, Turn
from eqrestore_lightning.motions._shift import ShiftFill


@torch.no_grad()
def evaluate(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    restorers: Mapping[str, Restorer],
    motions: Mapping[str, Motion],
    axis: str = "largest shift (pixels)",
    labels: Sequence[int] | None = None,
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
        classifier: From images to logits `(batch, num_classes)`, or to an object with `.logits`, a
            mapping with `"logits"` or a tuple that begins with them; switched to eval mode while
            this runs. It gets images in the floating dtype of its parameters.
        batches: Images `(batch, channels, *spatial)` and labels `(batch,)`, integers, iterated over
            once; the size of the images may differ between batches.
        restorers: Name to what is placed in front: anything with `find` and `undo`, such as a
            `RestoreTransform`, or a function from images to restored images.
        motions: Label to motion, such as `shift_motions()` or `turn_motions()`; a label that is a
            number is a place on the x axis.
        axis: What the labels of the motions count, with its unit.
        labels: For each label in `batches` the number of its class among the logits, for a
            classifier that knows more classes; by default the label itself.
        crop: After images are moved, this many pixels are cut from each side, so that what lies
            there enters where content leaves, as for a camera that moves; a restorer should then
            find no motion.
        seed: Determines the draws, which are the same for every restorer.
        progress: Whether to show a progress bar, which counts images.

    Returns:
        For each motion, a result without a restorer, then one for each restorer.

    Raises:
        TypeError: If a restorer is neither callable nor finds motions, labels are not integers,
            logits are not floating, or batches are not pairs of tensors.
        ValueError: If there are no images or no motions, shapes are others than these, a label has
            no logit, logits are NaN, images of a batch differ in size, a restorer is called
            `"no restorer"`, a motion cannot move the images, or `crop` does not fit.

    Warns:
        UserWarning: If a classifier with more classes than there are labels often answers with a
            class that no label names.

    Source: Table 1 of the paper; consistency as in Zhang, 2019, and Chaman and Dokmanić, 2021.

    >>> from eqrestore_lightning.evaluation import shift_motions
    >>> images, labels = torch.eye(1, 5).expand(8, 1, 5), torch.zeros(8, dtype=torch.int64)
    >>> evaluation = evaluate(
    ...     nn.Flatten(),  # the class is the place of the bright pixel
    ...     [(images, labels)],
    ...     restorers={"restored": lambda x: x.sort(2, descending=True).values},
    ...     motions=shift_motions([0, 2], axes=(-1,)),
    ...     progress=False,
    ... )
    >>> evaluation.get("restored", "2").measures["accuracy"]
    1.0
    """
    if not motions:
        raise ValueError("Expected `motions` to hold a motion, but got none.")
    wrapped = Classifier(classifier, labels)
    run = _Run(wrapped, named_restorers(restorers, wrapped.device), motions, crop, seed)
    was_training = classifier.training
    classifier.eval()
    dataset = getattr(batches, "dataset", ())
    total = len(dataset) if hasattr(dataset, "__len__") else 0
    bar = tqdm(
        total=total or None, desc="Evaluating", unit=" images", disable=not progress, leave=False
    )
    try:
        for images, targets in labeled_images(batches):
            if len(images):
                run.add(images.to(wrapped.device), wrapped.classes(targets))
            bar.update(len(images))
    finally:
        bar.close()
        classifier.train(was_training)
    if run.num_images == 0:
        raise ValueError("Expected `batches` to hold images, but got none.")
    wrapped.warn_of_other_classes()
    return run.evaluation(axis)


def shift_motions(
    sizes: Iterable[int] = range(9),
    *,
    fill: ShiftFill = "circular",
    axes: Sequence[int] = (-2, -1),
) -> dict[str, Motion]:
    """Return shifts of several sizes, by size.

    Args:
        sizes: Largest shift along each axis, pixels.
        fill: What enters where content leaves, see `Shift`.
        axes: The axes to shift along, see `Shift`.

    Returns:
        Size, such as `"4"`, to motion.

    >>> shift_motions([0, 4])["4"]
    Shift(axes=(-2, -1), max_shift=4, fill='circular')
    """
    return {str(size): Shift(tuple(axes), max_shift=size, fill=fill) for size in sizes}


def turn_motions(
    angles: Iterable[float] = range(0, 360, 15), *, fill: Fill = "zeros", max_shift: int = 0
) -> dict[str, Motion]:
    """Return turns by several angles, by angle, and a turn by a random angle, under `"any"`.

    Args:
        angles: Degrees, counter-clockwise as displayed.
        fill: What enters at the corners, see `rotate`.
        max_shift: If above 0, turned images are shifted circularly as well, each by its own amount
            of up to this many pixels along each axis.

    Returns:
        Angle, such as `"22.5"`, or `"any"`, to motion.

    >>> list(turn_motions([0, 22.5]))
    ['0', '22.5', 'any']
    """
    turns = {f"{angle:g}": Turn((float(angle), float(angle)), fill=fill) for angle in angles}
    turns["any"] = Turn(fill=fill)
    if max_shift == 0:
        return dict(turns)
    return {label: Product(turn, Shift(max_shift=max_shift)) for label, turn in turns.items()}


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
        classifier: Classifier,
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
        self.num_images = 0
        self.unmoved_correct = dict.fromkeys(restorers, 0)
        self.generators = {label: torch.Generator().manual_seed(seed) for label in motions}
        self.measures = {
            (label, name): build_measures(motion)
            for label, motion in motions.items()
            for name in restorers
        }

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Measure one batch."""
        unmoved = self._cut(images)
        known = [_Known(unmoved, self.classifier.unmoved(unmoved, labels))]
        references = {}
        for name, restorer in self.restorers.items():
            restored, _ = restore_with(restorer, unmoved)
            logits = self._classify(restored, known)
            references[name] = [*known, _Known(restored, logits)]
            self.unmoved_correct[name] += int((logits.argmax(1) == labels).sum())
        for label, motion in self.motions.items():
            motion.check(tuple(images.shape[2:]))
            draws = self._draws(motion, images, self.generators[label])
            for name, restorer in self.restorers.items():
                outcome = self._outcome(motion, draws, restorer, references[name], labels)
                for measure in self.measures[label, name].values():
                    measure.update(outcome)
        self.num_images += len(images)

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
        unmoved = {name: count / self.num_images for name, count in self.unmoved_correct.items()}
        return Evaluation(axis, results, units, self.num_images, unmoved)

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
        comparable = is_comparable(found, first.element)
        return Outcome(
            labels=labels.cpu(),
            unmoved=known[0].logits.cpu(),
            first=logits.cpu(),
            second=again.cpu(),
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
