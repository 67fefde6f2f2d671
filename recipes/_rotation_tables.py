"""What estimators of angles find, and what a classifier makes of it: tables."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.motions import Motion


@torch.no_grad()
def find_all(
    classifier: nn.Module,
    images: ImageTensors,
    restore: RestoreTransform,
    motion: Motion,
    *,
    seed: int,
) -> dict[str, Tensor]:
    """Move every image at random, restore and classify it.

    Returns:
        The absolute error of every field that `motion` moves (`angle`, degrees; `shift`, pixels),
        the `margin` and the `class`, one for each image.
    """
    generator = torch.Generator().manual_seed(seed)
    classifier.eval()
    found: dict[str, list[Tensor]] = defaultdict(list)
    for x, _ in images.loader(500):
        size = tuple(x.shape[2:])
        element = motion.draw(len(x), size, generator=generator)
        moved = motion.apply(x, element)
        each = restore.find(moved)
        classes = classifier(restore.undo(moved, each)).argmax(1)
        errors = motion.error(each.motion, element, size)
        for name, values in {**errors, "margin": each.margin, "class": classes}.items():
            found[name].append(values)
    return {name: torch.cat(parts) for name, parts in found.items()}


def digit_groups(labels: Tensor, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return groups of images whose angles may be harder or easier to find."""
    alike = torch.isin(labels, torch.tensor([0, 1, 8]))
    groups = {"all but 0, 1 and 8, which look alike upside down": ~alike}
    return groups | {f"margin of at least {m}": found["margin"] >= m for m in (1, 4, 8)}


def angle_rows(
    found: Mapping[str, Tensor], groups: Mapping[str, Tensor] | None = None
) -> list[dict[str, Any]]:
    """Return how far estimates are off, of all images and of groups of them.

    Args:
        found: What `find_all` returned.
        groups: Name to which images, bool; empty groups are left out.
    """
    everything = torch.ones(len(found["angle"]), dtype=torch.bool)
    rows = []
    for name, chosen in {"all": everything, **(groups or {})}.items():
        angle = found["angle"][chosen]
        row = {
            "images": name,
            "share, %": percent(chosen),
            "median error, degrees": float(angle.median()),
            "off by over 30°, %": percent(angle > 30),
        }
        if "shift" in found:
            shift = found["shift"][chosen].amax(1) if chosen.any() else torch.empty(0)
            row["shift exact, %"] = percent(shift == 0)
            row["shift within a pixel, %"] = percent(shift <= 1)
        rows += [row] if chosen.any() else []
    return rows


def digit_rows(labels: Tensor, found: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Return how far estimates are off and what images are taken for, a row for each digit."""
    rows = []
    for digit in sorted(set(labels.tolist())):
        angle, classes = (found[name][labels == digit] for name in ("angle", "class"))
        rows.append(
            {
                "digit": digit,
                "median error, degrees": float(angle.median()),
                "upside down, %": percent(angle > 135),
                "classified correctly, %": percent(classes == digit),
                "as 6, %": percent(classes == 6),
                "as 9, %": percent(classes == 9),
            }
        )
    return rows


def differing(
    restore: RestoreTransform, images: Tensor, views: Callable[[Tensor], Iterable[Tensor]]
) -> int:
    """Count images of which two views are restored to images that differ in any bit.

    `views` is from a batch of images to the same images, moved in several ways.
    """
    total = 0
    for batch in torch.split(images, 500):
        first, *others = map(restore, views(batch))
        unequal = [(other != first).flatten(1).any(1) for other in others]
        total += int(torch.stack(unequal).any(0).sum())
    return total


def percent(chosen: Tensor) -> float:
    """Return the share of entries that are true, percent."""
    return 100 * float(chosen.double().mean())


@torch.no_grad()
def vote_rows(
    classifier: nn.Module,
    images: ImageTensors,
    restore: RestoreTransform,
    motion: Motion,
    *,
    seed: int,
    most: int = 3,
) -> list[dict[str, Any]]:
    """Measure a classifier that votes over the best motions instead of trusting the best one.

    Its probabilities for the image, moved back by each candidate, are averaged, weighted by the
    probability of the candidate.
    """
    generator = torch.Generator().manual_seed(seed)
    correct: list[list[Tensor]] = [[] for _ in range(most)]
    for x, labels in images.loader(500):
        moved = motion.apply(x, motion.draw(len(x), tuple(x.shape[2:]), generator=generator))
        found = restore.find(moved, candidates=most)
        views = (found, *found.rivals)
        odds = torch.stack([torch.zeros_like(found.margin), *(r.margin for r in found.rivals)])
        classes = torch.stack([classifier(restore.undo(moved, view)).softmax(1) for view in views])
        for count in range(1, most + 1):
            weights = odds[:count].softmax(0).unsqueeze(2).to(classes)
            vote = (weights * classes[:count]).sum(0).argmax(1)
            correct[count - 1].append(vote == labels)
    return [
        {"candidates": count, "accuracy, %": percent(torch.cat(each))}
        for count, each in enumerate(correct, 1)
    ]
