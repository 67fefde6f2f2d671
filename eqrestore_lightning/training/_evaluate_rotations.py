"""Judge a classifier under rotations, with and without restorers in front."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from eqrestore_lightning.functional import Fill, circular_shift, random_shift, rotate
from eqrestore_lightning.training._evaluate import NO_RESTORER, check_labels


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
    if NO_RESTORER in restorers:
        raise ValueError(f"Expected another name for a restorer than {NO_RESTORER!r}.")
    device = next((tensor.device for tensor in classifier.parameters()), torch.device("cpu"))
    ways = _on_device({NO_RESTORER: nn.Identity(), **restorers}, device)
    *generators, last = (torch.Generator().manual_seed(seed) for _ in range(len(angles) + 1))
    counts = torch.zeros(len(angles) + 1, len(ways), 2, dtype=torch.float64)
    total = 0

    def move(images: Tensor, angle: Tensor, generator: torch.Generator) -> Tensor:
        turned = rotate(images, angle.to(images.device), fill=fill)
        if max_shift == 0:
            return turned
        shift = random_shift(len(images), max_shift, generator=generator)
        return circular_shift(turned, shift.to(images.device))

    def classify(images: Tensor, labels: Tensor) -> Tensor:
        logits = [classifier(way(images)) for way in ways.values()]
        check_labels(labels, logits[0])
        return torch.stack([each.argmax(1) for each in logits])

    def count(row: int, right: Tensor, same: Tensor) -> None:
        counts[row] += torch.stack([right, same], 1).double().cpu()

    was_training = classifier.training
    classifier.eval()
    try:
        for batch in tqdm(batches, desc="Evaluating", disable=not progress, leave=False):
            images, labels = (tensor.to(device) for tensor in batch)
            upright = classify(images, labels)
            for row, angle in enumerate(angles):
                degrees = torch.full((len(images),), float(angle))
                found = classify(move(images, degrees, generators[row]), labels)
                count(row, (found == labels).sum(1), (found == upright).sum(1))
            one, other = (
                classify(move(images, 360 * torch.rand(len(images), generator=last), last), labels)
                for _ in range(2)
            )
            right = ((one == labels).sum(1) + (other == labels).sum(1)) / 2
            count(-1, right, (one == other).sum(1))
            total += len(images)
    finally:
        classifier.train(was_training)
    if total == 0:
        raise ValueError("Expected `batches` to hold images, but got none.")
    return [
        RotationResult(name, angle, *(counts[row, column] / total).tolist())
        for row, angle in enumerate([*map(float, angles), None])
        for column, name in enumerate(ways)
    ]


def _on_device(
    restorers: Mapping[str, Callable[[Tensor], Tensor]], device: torch.device
) -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        name: copy.deepcopy(restorer).to(device) if isinstance(restorer, nn.Module) else restorer
        for name, restorer in restorers.items()
    }


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
