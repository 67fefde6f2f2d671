"""What estimators and rules find in turned photographs: tables and a picture."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _figures import STYLE
from _rotation_tables import percent
from _rules import TurnFound, TurnRule, mass_direction
from matplotlib import style
from matplotlib.figure import Figure
from torch import Tensor, nn

from eqrestore_lightning import QuarterTurn, RestoreTransform, Turn
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.evaluation import Restorer
from eqrestore_lightning.files import whole_file
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.nn import Estimator

Row = dict[str, Any]

PRIORS = (0.5, 0.8, 0.95, 0.99, 0.999)
HARM = 0.001  # share of upright photographs that may be turned
_AT_ONCE = 2**21  # pixels


class QuarterRule(TurnRule):
    """Turn images by the multiple of 90° that is nearest to what an angle read off them says."""

    def find(self, x: Tensor) -> TurnFound:
        """Estimate how images were turned."""
        angle = self.angle(x.float()) - self.usual
        return TurnFound({"quarters": torch.round(angle / 90).long() % 4})

    def undo(self, y: Tensor, found: TurnFound) -> Tensor:
        """Turn images back."""
        return QuarterTurn().undo(y, found.motion)


def quarter_rules(upright: Tensor) -> dict[str, Restorer]:
    """Return the rules for quarter turns; they learn from `upright` images what upright means."""
    return {
        "rule: brighter side up": QuarterRule(mass_direction, upright),
        "rule: smoother side up": QuarterRule(smooth_direction, upright),
    }


def smooth_direction(images: Tensor) -> Tensor:
    """Compute the direction in which an image becomes smoother, as it does toward the sky.

    Args:
        images: Floating, shape `(batch, channels, height, width)`.

    Returns:
        Degrees, counter-clockwise from the right, shape `(batch,)`.
    """
    down = images.diff(dim=2)[..., :-1].abs()
    right = images.diff(dim=3)[..., :-1, :].abs()
    return mass_direction(-(down + right)) % 360


def found_right(restore: Restorer, images: Tensor, motion: Motion, seed: int = 0) -> Tensor:
    """Turn images at random, and return the absolute error of what a restorer finds.

    Returns:
        Quarter turns or degrees, floating of shape `(len(images),)`.
    """
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for part in parts(images):
        size = tuple(part.shape[2:])
        element = motion.draw(len(part), size, generator=generator)
        found = restore.find(motion.apply(part.float(), element)).motion  # type: ignore[union-attr]
        (error,) = motion.error(found, element, size).values()
        errors.append(error.double())
    return torch.cat(errors)


def parts(images: Tensor) -> Sequence[Tensor]:
    """Split images, so that few pixels are looked at at once."""
    return torch.split(images, max(1, _AT_ONCE // images[0, 0].numel()))


def source_rows(
    compared: Mapping[str, Restorer], sets: Mapping[str, Tensor], motion: Motion
) -> Iterator[Row]:
    """Measure sets of upright images, turned at random."""
    for name, images in sets.items():
        row: Row = {"images": f"{len(images)} of {name}"}
        for restorer, restore in compared.items():
            error = found_right(restore, images, motion)
            if isinstance(motion, Turn):
                row[f"{restorer}: median error, degrees"] = float(error.median())
                row[f"{restorer}: off by over 30°, %"] = percent(error > 30)
            else:
                row[restorer] = percent(error == 0)
        yield row


def gates(margin: float) -> dict[str, dict[str, float]]:
    """Return what decides whether an image is turned, by name; `margin` is one chosen elsewhere."""
    priors = {f"prior={prior:g}": {"prior": prior} for prior in PRIORS}
    return {
        "none": {},
        **priors,
        f"min_margin={margin:.2f}": {"min_margin": margin},
        "prior=0.95, min_margin=2": {"prior": 0.95, "min_margin": 2.0},
    }


@torch.no_grad()
def gate_rows(
    estimator: Estimator, classifier: nn.Module, val: Tensor, test: ImageTensors
) -> list[Row]:
    """Measure what priors and gates save upright images, and what they cost turned ones.

    One of the gates is the least `min_margin` that turns at most a share of `HARM` of the upright
    images of `val`.
    """
    motion, plain = estimator.motion, RestoreTransform(estimator)
    generator = torch.Generator().manual_seed(0)
    tried = {
        name: RestoreTransform(estimator, **options)
        for name, options in gates(harmless_margin(estimator, val)).items()
    }
    results: dict[str, dict[str, list[Tensor]]] = {name: defaultdict(list) for name in tried}
    near = 10 if isinstance(motion, Turn) else 0
    for x, labels in test.loader(500):
        size = tuple(x.shape[2:])
        element = motion.draw(len(x), size, generator=generator)
        (turned,) = motion.error(motion.still(len(x)), element, size).values()
        for state, images in (("upright", x), ("turned", motion.apply(x, element))):
            scores = estimator.exact_scores(images)
            for name, restore in tried.items():
                found = restore.decide(images, scores)
                classes = classifier(plain.undo(images, found)).argmax(1)
                results[name][state].append(classes == labels)
                (value,) = found.motion.values()
                (error,) = motion.error(found.motion, element, size).values()
                key, outcome = ("harm", value != 0)
                if state == "turned":
                    key, outcome = "right", (error <= near)[turned > near]
                results[name][key].append(outcome)
    columns = {
        "harm": "upright ones turned, %",
        "right": "turned ones put right, %",
        "upright": "accuracy upright, %",
        "turned": "accuracy turned, %",
    }
    return [
        {"gate": name, **{columns[key]: percent(torch.cat(found[key])) for key in columns}}
        for name, found in results.items()
    ]


def harmless_margin(estimator: Estimator, upright: Tensor) -> float:
    """Return the least `min_margin` at which at most a share of `HARM` of upright images turns."""
    restore = RestoreTransform(estimator)
    margins = []
    for part in parts(upright):
        found = restore.find(part)
        (value,) = found.motion.values()
        wrong = value.abs() > 10 if isinstance(estimator.motion, Turn) else value != 0
        margins.append(torch.where(wrong, found.margin, -1))
    worst = torch.cat(margins).sort(descending=True).values
    return max(0.0, float(worst[int(HARM * len(worst))])) + 1e-6


def equal_rows(estimator: Estimator, sets: Mapping[str, Tensor]) -> Iterator[Row]:
    """Count images of which the four quarter turns are not restored to equal images."""
    restore = RestoreTransform(estimator)
    for name, images in sets.items():
        differing = 0
        for part in parts(images):
            first, *others = (restore(torch.rot90(part, turn, (2, 3))) for turn in range(4))
            unequal = [(other != first).flatten(1).any(1) for other in others]
            differing += int(torch.stack(unequal).any(0).sum())
        yield {"images": name, "of": len(images), "restored differently": differing}


def corner_rows(estimator: Estimator, sets: Mapping[str, Tensor]) -> Iterator[Row]:
    """Count images whose scores change if all corners are blacked out, as turning leaves them."""
    for name, images in sets.items():
        size = images.shape[3]
        twice = (2 * torch.arange(size) - (size - 1)) ** 2
        inside = twice.unsqueeze(1) + twice <= (size - 1) ** 2
        changed = sum(
            int((estimator.exact_scores(x) != estimator.exact_scores(x * inside)).any(1).sum())
            for x in parts(images)
        )
        yield {"upright images": name, "of": len(images), "scored differently": changed}


@torch.no_grad()
def told(classifier: nn.Module, images: ImageTensors, back: Turn, *, seed: int) -> float:
    """Return the accuracy on images that are turned and turned back by the same angle, percent."""
    generator = torch.Generator().manual_seed(seed)
    correct = []
    for x, labels in images.loader(500):
        element = Turn().draw(len(x), tuple(x.shape[2:]), generator=generator)
        restored = back.undo(Turn().apply(x, element), element)
        correct.append(classifier(restored).argmax(1) == labels)
    return percent(torch.cat(correct))


@torch.no_grad()
def draw_prior(path: Path, rows: Sequence[Row]) -> Path:
    """Draw what priors save upright images against what they cost turned ones."""
    priors = [row for row in rows if "min_margin" not in row["gate"]]
    x, y = (
        [row[key] for row in priors]
        for key in ("upright ones turned, %", "turned ones put right, %")
    )
    with style.context(STYLE):
        figure = Figure(figsize=(5.5, 4), layout="constrained")
        axis = figure.subplots()
        axis.plot(x, y, "o-", color="C1")
        for row, across, up in zip(priors, x, y, strict=True):
            label = "no prior" if row["gate"] == "none" else row["gate"]
            axis.annotate(
                label, (across, up), textcoords="offset points", xytext=(7, -9), fontsize=9
            )
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_xlim(-0.01, 70)
        axis.set_xticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
        axis.set_xlabel("upright images turned, %")
        axis.set_ylabel("turned images put right, %")
        axis.set_title("What a prior saves and costs, CIFAR-10 test images")
        with whole_file(path) as part:
            figure.savefig(part)
    return path
