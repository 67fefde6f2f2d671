"""Measure a restorer of rotations on MNIST."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from _rotation import random_angles
from _rotation_baselines import Canonical, gradient_orientation, mass_direction, principal_axis
from torch import Tensor, nn

from eqrestore_lightning import (
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    circular_shift,
    evaluate_rotations,
    random_shift,
    rotate,
    to_polar,
)
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.functional import angle_error
from eqrestore_lightning.training import RotationResult


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


@dataclass
class Found:
    """What a restorer found in each image.

    Attributes:
        error: Angular error, degrees.
        off: How far the shift is off on the worse axis, pixels.
        margin: How far the best place is ahead of another peak.
        classes: What the classifier takes the restored image for.
    """

    error: Tensor
    off: Tensor
    margin: Tensor
    classes: Tensor


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
        self.restorers: dict[str, Callable[[Tensor], Tensor]] = {
            "restored": self._restore,
            "restored, grid angles only": self._restore_on_grid,
            "restored, shift and angle": self.restore_both,
            "centre of mass": Canonical(mass_direction, upright),
            "principal axis": Canonical(principal_axis, upright),
            "gradient orientation": Canonical(gradient_orientation, upright),
        }

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

    def angles(self) -> Tensor:
        """Draw one angle for each image."""
        return random_angles(len(self.images), seed=self.seed)

    def over_angles(self) -> list[RotationResult]:
        """What becomes of every fourth image, turned by 0, 15, …, 345°."""
        return self._evaluate(4, range(0, 360, 15))

    def accuracy(self) -> list[RotationResult]:
        """What becomes of all images upright, and turned by random angles."""
        return self._evaluate(1, [0])

    def _evaluate(self, every: int, angles: Sequence[float]) -> list[RotationResult]:
        images = ImageTensors(self.images[::every], self.labels[::every])
        options: dict[str, Any] = {"angles": angles, "seed": self.seed}
        frozen = evaluate_rotations(
            self.trained.classifier, images.loader(500), restorers=self.restorers, **options
        )
        augmented = evaluate_rotations(
            self.trained.augmented, images.loader(500), restorers={}, **options
        )
        name = "classifier trained on turned images"
        return frozen + [replace(result, restorer=name) for result in augmented]

    @torch.no_grad()
    def gate(
        self, restore: RestoreTransform, margins: Sequence[float] = (0, 0.5, 1, 2, 4, 8)
    ) -> list[dict[str, Any]]:
        """What leaving images of small margin as they are makes of upright and turned ones."""
        rows: list[dict[str, Any]] = [{"`min_margin`": float(least)} for least in margins]
        for name, angle in (("upright", torch.zeros(len(self.images))), ("turned", self.angles())):
            margin, restored, left = (
                torch.cat(each) for each in zip(*self._both(restore, angle), strict=True)
            )
            for row in rows:
                trusted = margin >= row["`min_margin`"]
                right = torch.where(trusted, restored, left)
                row[f"{name}: restored, %"] = 100 * float(trusted.double().mean())
                row[f"{name}: accuracy, %"] = 100 * float(right.double().mean())
        return rows

    def _both(
        self, restore: RestoreTransform, angle: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give the margin of images, and whether they are classified rightly restored, and not."""
        for images, labels, angles in self._batches(angle):
            turned = rotate(images.float() / 255, angles)
            scores = restore.scores(turned)
            restored = restore.estimator.undo(turned, restore.estimator.locate(scores, turned))
            yield (
                restore.estimator.margin(scores),
                self.trained.classifier(restored).argmax(1) == labels,
                self.trained.classifier(turned).argmax(1) == labels,
            )

    @torch.no_grad()
    def find(self, restore: RestoreTransform, *, max_shift: int = 0) -> Found:
        """Say what is found in every image, turned by a random angle."""
        parts = []
        generator = torch.Generator().manual_seed(self.seed)
        for images, _, angles in self._batches(self.angles()):
            shift = random_shift(len(images), max_shift, generator=generator)
            moved = circular_shift(rotate(images.float() / 255, angles), shift)
            scores = restore.scores(moved)
            found = restore.estimator.locate(scores, moved)
            restored = restore.estimator.undo(moved, found)
            off = torch.zeros(len(images), dtype=torch.int64)
            if max_shift:
                off = ((found[:, :2].long() - shift + 16) % 32 - 16).abs().amax(1)
            parts.append(
                (
                    angle_error(found[:, -1], angles.double()),
                    off,
                    restore.estimator.margin(scores),
                    self.trained.classifier(restored).argmax(1),
                )
            )
        return Found(*(torch.cat(part) for part in zip(*parts, strict=True)))

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
        rows.append(
            {
                "what": "turned images of which two shifts differ in any bit, "
                "RotoTranslationEstimator",
                "of": len(self.images),
                "wrong": self._different_shifts(),
            }
        )
        return rows

    def quarter_rows(self) -> list[dict[str, Any]]:
        """Accuracy over all four quarter turns of every image."""
        images = ImageTensors(self.images, self.labels).loader(500)
        results = evaluate_rotations(
            self.trained.classifier,
            images,
            restorers=self._quarter_restorers(),
            angles=(0, 90, 180, 270),
        )
        return [
            {
                "": name,
                "accuracy, %": 25
                * sum(
                    result.accuracy
                    for result in results
                    if result.restorer == name and result.angle is not None
                ),
            }
            for name in dict.fromkeys(result.restorer for result in results)
        ]

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

    def _different_shifts(self) -> int:
        different = 0
        generator = torch.Generator().manual_seed(self.seed)
        for images, _, angles in self._batches(self.angles()):
            turned = rotate(images, angles)
            one, other = (
                self.restore_both(circular_shift(turned, shift))
                for shift in torch.split(
                    random_shift(2 * len(images), 16, generator=generator), len(images)
                )
            )
            different += int((one != other).flatten(1).any(1).sum())
        return different

    def roto_translation(self) -> list[dict[str, Any]]:
        """Accuracy on images turned by any angle, then shifted circularly by any amount."""
        images = ImageTensors(self.images, self.labels).loader(500)
        results = evaluate_rotations(
            self.trained.classifier,
            images,
            restorers={"restored": self.restore_both},
            angles=(),
            max_shift=16,
            seed=self.seed,
        )
        return [
            {
                "": result.restorer,
                "turned and shifted": 100 * result.accuracy,
                "same class under two motions": 100 * result.consistency,
            }
            for result in results
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
