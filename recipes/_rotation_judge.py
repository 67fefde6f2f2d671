"""Measure a restorer of rotations on MNIST."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _rotation import Way, by_angle, random_angles, share_right
from _rotation_baselines import Canonical, gradient_orientation, mass_direction, principal_axis
from torch import Tensor, nn

from eqrestore_lightning import (
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    circular_shift,
    random_shift,
    rotate,
    to_polar,
)
from eqrestore_lightning.functional import angle_error


@dataclass
class Trained:
    """What the recipe trains, in eval mode on the CPU.

    Attributes:
        classifier: Saw upright images only.
        augmented: The same network, trained on turned images.
        rotation: Finds the angle of centred digits.
        both: Finds turned digits, and their angle.
        quarters: Finds quarter turns.
        seconds: What training each took, by the names above.
    """

    classifier: nn.Module
    augmented: nn.Module
    rotation: RotationEstimator
    both: RotoTranslationEstimator
    quarters: QuarterTurnEstimator
    seconds: dict[str, float]


class Judge:
    """Measure what was trained on test images.

    Args:
        trained: What to measure.
        images: uint8 of shape `(num_images, 1, 32, 32)`, upright.
        labels: int64 of shape `(num_images,)`.
        upright: Training images of 0…1, from which untrained ways learn what upright means.
        seed: Decides angles and shifts.
    """

    def __init__(
        self, trained: Trained, images: Tensor, labels: Tensor, upright: Tensor, seed: int
    ) -> None:
        self.trained = trained
        self.images, self.labels, self.seed = images, labels, seed
        self.restore = RestoreTransform(trained.rotation)
        self._turned, self._angle = torch.empty(0), torch.empty(0)
        self.restore_both = RestoreTransform(trained.both)
        self.ways: dict[str, Way] = {
            "no restorer": trained.classifier,
            "restored": self._behind(self._restore),
            "restored, grid angles only": self._behind(self._restore_on_grid),
            "restored, shift and angle": self._behind(self.restore_both),
            "centre of mass": self._behind(Canonical(mass_direction, upright)),
            "principal axis": self._behind(Canonical(principal_axis, upright)),
            "gradient orientation": self._behind(Canonical(gradient_orientation, upright)),
            "classifier trained on turned images": trained.augmented,
        }

    def _behind(self, move: Callable[[Tensor], Tensor]) -> Way:
        return lambda x: self.trained.classifier(move(x))

    def _estimate(self, x: Tensor) -> Tensor:
        """Estimate angles, once for all ways that ask for the same images one after another."""
        if x is not self._turned:
            self._turned, self._angle = x, self.restore.estimate(x)
        return self._angle

    def _restore(self, x: Tensor) -> Tensor:
        return self.trained.rotation.undo(x, self._estimate(x))

    def _restore_on_grid(self, x: Tensor) -> Tensor:
        step = 360 / self.trained.rotation.num_angles  # the parabola stays within half a step
        return self.trained.rotation.undo(x, step * torch.round(self._estimate(x) / step))

    def angles(self, offset: int = 0) -> Tensor:
        """Draw one angle for each image."""
        return random_angles(len(self.images), seed=self.seed + offset)

    def over_angles(self) -> dict[str, list[float]]:
        """Accuracy at each of `ANGLES`, percent, of every fourth image."""
        return by_angle(self.images[::4], self.labels[::4], self.ways)

    @torch.no_grad()
    def accuracy(self) -> list[dict[str, Any]]:
        """Accuracy upright, and over two random angles each, and whether both give one class."""
        upright = share_right(self.images, self.labels, torch.zeros(len(self.images)), self.ways)
        right, same = dict.fromkeys(self.ways, 0), dict.fromkeys(self.ways, 0)
        others = torch.split(self.angles(1), 500)
        for (images, labels, one), other in zip(self._batches(self.angles()), others, strict=True):
            turned = [rotate(images.float() / 255, angle) for angle in (one, other)]
            found = [{name: way(x).argmax(1) for name, way in self.ways.items()} for x in turned]
            for name in self.ways:
                first, second = (classes[name] for classes in found)
                right[name] += int((first == labels).sum() + (second == labels).sum())
                same[name] += int((first == second).sum())
        count = len(self.images)
        return [
            {
                "": name,
                "upright": upright[name],
                "any angle": 50 * right[name] / count,
                "same class under two angles": 100 * same[name] / count,
            }
            for name in self.ways
        ]

    @torch.no_grad()
    def gate(self, margins: Sequence[float] = (0, 0.5, 1, 2, 4, 8)) -> list[dict[str, Any]]:
        """What leaving images of small margin as they are makes of upright and turned ones."""
        rows: list[dict[str, Any]] = [{"`min_margin`": float(least)} for least in margins]
        for name, angle in (("upright", torch.zeros(len(self.images))), ("turned", self.angles())):
            margin, restored, left = (
                torch.cat(each) for each in zip(*self._both(angle), strict=True)
            )
            for row in rows:
                trusted = margin >= row["`min_margin`"]
                right = torch.where(trusted, restored, left)
                row[f"{name}: restored, %"] = 100 * float(trusted.double().mean())
                row[f"{name}: accuracy, %"] = 100 * float(right.double().mean())
        return rows

    def _both(self, angle: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give the margin of images, and whether they are classified rightly restored, and not."""
        for images, labels, angles in self._batches(angle):
            turned = rotate(images.float() / 255, angles)
            scores = self.restore.scores(turned)
            found = self.trained.rotation.locate(scores, turned)
            restored = self.trained.rotation.undo(turned, found)
            yield (
                self.trained.rotation.margin(scores),
                self.trained.classifier(restored).argmax(1) == labels,
                self.trained.classifier(turned).argmax(1) == labels,
            )

    @torch.no_grad()
    def errors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Angular error, degrees, and margin of every image at a random angle; and its class."""
        errors, margins, classes = [], [], []
        for images, _, angles in self._batches(self.angles()):
            turned = rotate(images.float() / 255, angles)
            scores = self.restore.scores(turned)
            found = self.trained.rotation.locate(scores, turned)
            errors.append(angle_error(found[:, 0], angles.double()))
            margins.append(self.trained.rotation.margin(scores))
            restored = self.trained.rotation.undo(turned, found)
            classes.append(self.trained.classifier(restored).argmax(1))
        return torch.cat(errors), torch.cat(margins), torch.cat(classes)

    @torch.no_grad()
    def exact(self, count: int = 500) -> list[dict[str, Any]]:
        """Count what should be exact and is not: estimates on the grid, restored quarter turns."""
        estimator = self.trained.rotation
        polar = _polar(estimator, self.images[:count].double())
        steps = torch.arange(estimator.num_angles)
        wrong = 0
        for image in polar:
            rolled = circular_shift(image.expand(len(steps), -1, -1), steps[:, None])
            found = estimator.network.locate(estimator.network.exact_scores(rolled), rolled)
            follows = (found - found[:1] - steps[:, None]) % len(steps) == 0
            wrong += int((~follows).sum())
        rows: list[dict[str, Any]] = [
            {
                "what": "polar images rolled by every grid angle: estimates that do not follow",
                "of": len(polar) * len(steps),
                "wrong": wrong,
            }
        ]
        for name, restore in self._quarter_restorers().items():
            rows.append(
                {
                    "what": f"images whose four quarter turns differ in any bit, {name}",
                    "of": len(self.images),
                    "wrong": self._different_quarters(restore),
                }
            )
        return rows

    @torch.no_grad()
    def quarter_rows(self) -> list[dict[str, Any]]:
        """Accuracy on images at a random one of the four quarter turns."""
        angle = 90 * torch.floor(self.angles(5) / 90)
        ways: dict[str, Way] = {
            "no restorer": self.trained.classifier,
            **{name: self._behind(way) for name, way in self._quarter_restorers().items()},
        }
        shares = share_right(self.images, self.labels, angle, ways)
        return [{"": name, "accuracy, %": share} for name, share in shares.items()]

    def _quarter_restorers(self) -> dict[str, RestoreTransform]:
        return {
            "RotationEstimator": self.restore,
            "QuarterTurnEstimator": RestoreTransform(self.trained.quarters),
        }

    def _different_quarters(self, restore: RestoreTransform) -> int:
        different = 0
        for part in torch.split(self.images, 500):
            moved = [restore(torch.rot90(part, quarters, (2, 3))) for quarters in range(4)]
            unequal = [(image != moved[0]).flatten(1).any(1) for image in moved[1:]]
            different += int(torch.stack(unequal).any(0).sum())
        return different

    @torch.no_grad()
    def roto_translation(self) -> list[dict[str, Any]]:
        """Accuracy on images turned by any angle, and then shifted circularly by any amount."""
        generator = torch.Generator().manual_seed(self.seed)
        shifts = random_shift(len(self.images), 16, generator=generator)
        right = torch.zeros(2, 2)
        for (images, labels, angles), shift in zip(
            self._batches(self.angles(3)), torch.split(shifts, 500), strict=True
        ):
            turned = rotate(images.float() / 255, angles)
            for column, x in enumerate((circular_shift(turned, shift), turned)):
                for row, y in enumerate((x, self.restore_both(x))):
                    right[row, column] += (self.trained.classifier(y).argmax(1) == labels).sum()
        return [
            {"": name, "turned and shifted": shifted, "turned only": only}
            for name, (shifted, only) in zip(
                ("no restorer", "restored"), (100 * right / len(self.images)).tolist(), strict=True
            )
        ]

    def _batches(self, angle: Tensor) -> Any:
        parts = (torch.split(each, 500) for each in (self.images, self.labels, angle))
        return zip(*parts, strict=True)


def _polar(estimator: RotationEstimator, x: Tensor) -> Tensor:
    polar = to_polar(
        x,
        num_radii=estimator.num_radii,
        num_angles=estimator.num_angles,
        max_radius=estimator.max_radius,
    )
    return polar.flatten(1, 2)
