"""Measure a restorer of rotations on MNIST."""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _rotation import Way, by_angle, random_angles, share_right
from _rotation_baselines import Canonical, gradient_orientation, principal_axis
from torch import Tensor, nn

from eqrestore_lightning import (
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
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
        translation: Finds turned digits.
        quarters: Finds quarter turns.
        seconds: What training `rotation` took.
    """

    classifier: nn.Module
    augmented: nn.Module
    rotation: RotationEstimator
    translation: TranslationEstimator
    quarters: QuarterTurnEstimator
    seconds: float


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
        grid = copy.deepcopy(trained.rotation)
        grid.sub_grid = False
        self.roto = RotoTranslationEstimator.join(trained.translation, trained.rotation)
        self.ways: dict[str, Way] = {
            "no restorer": trained.classifier,
            "restored": self._behind(self.restore),
            "restored, grid angles only": self._behind(RestoreTransform(grid)),
            "principal axis": self._behind(Canonical(principal_axis, upright)),
            "gradient orientation": self._behind(Canonical(gradient_orientation, upright)),
            "classifier trained on turned images": trained.augmented,
        }

    def _behind(self, move: Callable[[Tensor], Tensor]) -> Way:
        return lambda x: self.trained.classifier(move(x))

    def angles(self, offset: int = 0) -> Tensor:
        """Draw one angle for each image."""
        return random_angles(len(self.images), seed=self.seed + offset)

    def over_angles(self) -> dict[str, list[float]]:
        """Accuracy at each of `ANGLES`, percent."""
        return by_angle(self.images, self.labels, self.ways)

    def mean(self, draws: int = 4) -> dict[str, float]:
        """Accuracy over uniformly random angles, percent; every image at several."""
        each = [
            share_right(self.images, self.labels, self.angles(draw), self.ways)
            for draw in range(draws)
        ]
        return {name: statistics.fmean(shares[name] for shares in each) for name in self.ways}

    @torch.no_grad()
    def gate(self, margins: Sequence[float] = (0, 0.5, 1, 2, 4, 8)) -> list[list[object]]:
        """Rows: margin, share restored and accuracy, of upright and of turned images."""
        rows: list[list[object]] = []
        for margin in margins:
            row: list[object] = [margin]
            restore = RestoreTransform(self.trained.rotation, min_margin=margin)
            for angle in (torch.zeros(len(self.images)), self.angles()):
                trusted, right = 0, 0
                for images, labels, angles in self._batches(angle):
                    turned = rotate(images.float() / 255, angles)
                    if margin == margins[0]:
                        trusted += len(turned)
                    else:
                        trusted += int(restore.trusted(turned).sum())
                    classes = self.trained.classifier(restore(turned)).argmax(1)
                    right += int((classes == labels).sum())
                row += [100 * trusted / len(self.images), 100 * right / len(self.images)]
            rows.append(row)
        return rows

    @torch.no_grad()
    def errors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Angular error, degrees, and margin of every image at a random angle; and its class."""
        errors, margins, classes = [], [], []
        for images, _, angles in self._batches(self.angles()):
            turned = rotate(images.float() / 255, angles)
            scores = self.restore.estimator.exact_scores(turned)
            found = self.restore.estimator.locate(scores, turned)
            errors.append(angle_error(found[:, 0], angles.double()))
            margins.append(self.restore.estimator.margin(scores))
            classes.append(self.trained.classifier(self.restore(turned)).argmax(1))
        return torch.cat(errors), torch.cat(margins), torch.cat(classes)

    @torch.no_grad()
    def consistency(self) -> dict[str, float]:
        """Share of images given the same class under two random angles, percent."""
        same = dict.fromkeys(self.ways, 0)
        first, second = self.angles(1), self.angles(2)
        others = torch.split(second, 500)
        for (images, _, one), other in zip(self._batches(first), others, strict=True):
            pixels = images.float() / 255
            for name, way in self.ways.items():
                classes = [way(rotate(pixels, angle)).argmax(1) for angle in (one, other)]
                same[name] += int((classes[0] == classes[1]).sum())
        return {name: 100 * count / len(self.images) for name, count in same.items()}

    @torch.no_grad()
    def grid_errors(self, count: int = 500) -> tuple[int, int]:
        """Roll polar images by every grid angle: estimates that do not follow, and all."""
        estimator = self.trained.rotation
        polar = _polar(estimator, self.images[:count].double())
        steps = torch.arange(estimator.num_angles)
        wrong = 0
        for image in polar:
            rolled = circular_shift(image.expand(len(steps), -1, -1), steps[:, None])
            found = estimator.network.locate(estimator.network.exact_scores(rolled), rolled)
            follows = (found - found[:1] - steps[:, None]) % len(steps) == 0
            wrong += int((~follows).sum())
        return wrong, len(polar) * len(steps)

    def quarter_turns(self, restore: RestoreTransform) -> int:
        """Count images that are restored otherwise, in any bit, after a quarter turn or more."""
        different = torch.zeros(len(self.images), dtype=torch.bool)
        for part, index in zip(
            torch.split(self.images, 500),
            torch.split(torch.arange(len(self.images)), 500),
            strict=True,
        ):
            reference = restore(part)
            for quarters in (1, 2, 3):
                moved = restore(torch.rot90(part, quarters, (2, 3)))
                different[index] |= (moved != reference).flatten(1).any(1)
        return int(different.sum())

    @torch.no_grad()
    def quarter_accuracy(self, restore: RestoreTransform | None) -> float:
        """Accuracy at quarter turns, each image at a random one, percent."""
        angle = 90 * torch.floor(self.angles(5) / 90)
        way = self.trained.classifier if restore is None else self._behind(restore)
        return share_right(self.images, self.labels, angle, {"": way})[""]

    @torch.no_grad()
    def roto_translation(self) -> tuple[float, float, float]:
        """Accuracy on turned and shifted images, none and restored, and without shifts, percent."""
        restore = RestoreTransform(self.roto)
        generator = torch.Generator().manual_seed(self.seed)
        shifts = random_shift(len(self.images), 16, generator=generator)
        right = torch.zeros(3)
        for (images, labels, angles), shift in zip(
            self._batches(self.angles(3)), torch.split(shifts, 500), strict=True
        ):
            turned = rotate(images.float() / 255, angles)
            moved = circular_shift(turned, shift)
            for row, x in enumerate((moved, restore(moved), restore(turned))):
                right[row] += (self.trained.classifier(x).argmax(1) == labels).sum()
        none, restored, unshifted = (100 * right / len(self.images)).tolist()
        return none, restored, unshifted

    def speed(self, batch_size: int = 256, repeats: int = 3) -> dict[str, float]:
        """Images restored in a second, and shares of the time in polar sampling and turning."""
        batches = torch.split(rotate(self.images, self.angles()), batch_size)
        angles = torch.split(self.angles(), batch_size)
        estimator = self.trained.rotation

        def seconds(work: Callable[..., object], *others: Sequence[Tensor]) -> float:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                for arguments in zip(batches, *others, strict=True):
                    work(*arguments)
                times.append(time.perf_counter() - start)
            return statistics.median(times)

        self.restore(batches[0])
        whole = seconds(self.restore)
        return {
            "images_per_second": len(self.images) / whole,
            "polar_share": seconds(lambda x: _polar(estimator, x.double())) / whole,
            "turning_share": seconds(rotate, angles) / whole,
        }

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
