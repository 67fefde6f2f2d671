"""Judge a classifier under rotations, with and without restorers in front."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from eqrestore_lightning.training._evaluate import (
    NO_RESTORER,
    check_labels,
    check_names,
    device_of,
    judge_batches,
)
from torch import Tensor, nn

from eqrestore_lightning.functional import Fill, circular_shift, random_shift, rotate


@dataclass(frozen=True)
class RotationResult:
    """What became of a data set turned by an angle, or by random angles, behind one restorer.

    Attributes:
        restorer: Its name.
        angle: Degrees, counter-clockwise; `None` for random angles.
        accuracy: Share of images classified rightly, from 0 to 1; for random angles under two.
        consistency: Share of images put into the same class as the upright image; for random angles
            into the same class under both.
    """

    restorer: str
    angle: float | None
    accuracy: float
    consistency: float


@torch.no_grad()
def evaluate_rotations(
    classifier: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    restorers: Mapping[str, Callable[[Tensor], Tensor]],
    angles: Sequence[float] = tuple(range(0, 360, 15)),
    max_shift: int = 0,
    fill: Fill = "zeros",
    seed: int = 0,
    progress: bool = True,
) -> list[RotationResult]:
    """Measure a classifier on the same images turned by several angles, and by random ones.

    Args:
        classifier: From images to logits `(batch, num_classes)`; put into eval mode for the while.
        batches: Images `(batch, channels, height, width)`, upright, and labels `(batch,)`, gone
            through once.
        restorers: Name to what is put in front: a `RestoreTransform`, or another function from
            images to restored images (`evaluate_shifts` takes functions to shifts instead).
        angles: Degrees, counter-clockwise as displayed.
        max_shift: Turned images are shifted circularly as well, by up to this many pixels along
            each axis, each by its own shift.
        fill: What enters at the corners of a turned image, see `rotate`.
        seed: Decides random angles and shifts.
        progress: Whether to show a progress bar.

    Returns:
        For each of `angles`, then for random ones (`angle` is `None`), one result without restorer
        and one for each restorer.

    Raises:
        ValueError: If there are no images, a label has no logit, or a restorer is called
            `"no restorer"`.

    Source: own.
    """
    judge = _Judge(classifier, restorers, angles, max_shift, fill, seed)
    total = judge_batches(judge.add, classifier, batches, progress=progress)
    return [
        RotationResult(name, angle, *(judge.counts[row, column] / total).tolist())
        for row, angle in enumerate([*map(float, angles), None])
        for column, name in enumerate(judge.ways)
    ]


class _Judge:
    """Count what becomes of batch after batch."""

    def __init__(
        self,
        classifier: nn.Module,
        restorers: Mapping[str, Callable[[Tensor], Tensor]],
        angles: Sequence[float],
        max_shift: int,
        fill: Fill,
        seed: int,
    ) -> None:
        check_names(restorers)
        device = device_of(classifier)
        self.classifier = classifier
        self.ways: dict[str, Callable[[Tensor], Tensor]] = {NO_RESTORER: nn.Identity()}
        for name, restorer in restorers.items():
            if isinstance(restorer, nn.Module):
                restorer = copy.deepcopy(restorer).to(device)
            self.ways[name] = restorer
        self.angles, self.max_shift, self.fill = angles, max_shift, fill
        self.generators = [torch.Generator().manual_seed(seed) for _ in range(len(angles) + 1)]
        self.counts = torch.zeros(len(angles) + 1, len(self.ways), 2, dtype=torch.float64)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Count one batch, at every angle and behind every restorer."""
        upright = self._classify(images, labels)
        for row, angle in enumerate(self.angles):
            degrees = torch.full((len(images),), float(angle))
            found = self._classify(self._move(images, degrees, row), labels)
            self._count(row, (found == labels).sum(1), (found == upright).sum(1))
        one, other = (
            self._classify(self._move(images, self._random_angles(len(images)), -1), labels)
            for _ in range(2)
        )
        right = ((one == labels).sum(1) + (other == labels).sum(1)) / 2
        self._count(-1, right, (one == other).sum(1))

    def _random_angles(self, count: int) -> Tensor:
        return 360 * torch.rand(count, generator=self.generators[-1])

    def _move(self, images: Tensor, angle: Tensor, row: int) -> Tensor:
        turned = rotate(images, angle.to(images.device), fill=self.fill)
        if self.max_shift == 0:
            return turned
        shift = random_shift(len(images), self.max_shift, generator=self.generators[row])
        return circular_shift(turned, shift.to(images.device))

    def _classify(self, images: Tensor, labels: Tensor) -> Tensor:
        """Give the classes behind every restorer: `(restorers, batch)`."""
        logits = [self.classifier(way(images)) for way in self.ways.values()]
        check_labels(labels, logits[0])
        return torch.stack([each.argmax(1) for each in logits])

    def _count(self, row: int, right: Tensor, same: Tensor) -> None:
        self.counts[row] += torch.stack([right, same], 1).double().cpu()


def rotation_table(results: Sequence[RotationResult]) -> str:
    """Lay results out as a Markdown table, percent, one row for each angle.

    Args:
        results: What `evaluate_rotations` gave.

    >>> print(rotation_table([RotationResult("no restorer", 90.0, 0.25, 0.2),
    ...                       RotationResult("no restorer", None, 0.5, 0.4)]))
    | turned by, degrees | accuracy, no restorer | same class, no restorer |
    |---|---|---|
    | 90 | 25.00 | 20.00 |
    | any | 50.00 | 40.00 |
    """
    names = list(dict.fromkeys(result.restorer for result in results))
    heads = [f"{measure}, {name}" for measure in ("accuracy", "same class") for name in names]
    lines = [f"| turned by, degrees | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for angle in dict.fromkeys(result.angle for result in results):
        row = [result for result in results if result.angle == angle]
        values = [result.accuracy for result in row] + [result.consistency for result in row]
        label = "any" if angle is None else f"{angle:g}"
        lines.append(f"| {label} | {' | '.join(f'{100 * value:.2f}' for value in values)} |")
    return "\n".join(lines)
