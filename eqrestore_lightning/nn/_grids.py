"""Grids of turns: how a row of scores, one for each turn, is read, compared and trained."""

import torch
import torch.nn.functional as F
from torch import Tensor

from eqrestore_lightning.motions import Element, QuarterTurn
from eqrestore_lightning.nn._base import best_only

_RIVAL_DEGREES = 30.0  # angles nearer to the best one belong to the same peak
_STEPS_PER_DEGREE = 1024  # angles are multiples of a power of two: sums of them are exact


class QuarterGrid:
    """All quarter turns, and mirror images with `mirrors`, as `QuarterTurn.from_index` counts."""

    num_angles = 4

    def __init__(self, *, mirrors: bool = False) -> None:
        self.mirrors = mirrors
        self._motion = QuarterTurn(mirrors)

    def element(self, scores: Tensor, place: Tensor) -> Element:
        """Return the motion at the best place, int64 of shape `(batch,)`."""
        del scores
        return self._motion.from_index(place)

    def same_peak(self, scores: Tensor) -> Tensor:
        """Return which scores belong to the best one's peak: itself."""
        return best_only(scores)

    def loss(self, scores: Tensor, element: Element) -> Tensor:
        """Compute the cross-entropy over all turns."""
        return F.cross_entropy(scores, self._motion.to_index(element))


class AngleGrid:
    """Angles around the circle: place `j` stands for `360° · j / num_angles`."""

    mirrors = False

    def __init__(self, num_angles: int, *, sub_grid: bool) -> None:
        self.num_angles = num_angles
        self.sub_grid = sub_grid

    def element(self, scores: Tensor, place: Tensor) -> Element:
        """Return the angle at the best place in [-180, 180), or between it and its neighbors."""
        place = place.unsqueeze(1)
        angle = _to_steps(place * (360 / self.num_angles))
        if self.sub_grid and self.num_angles > 2:
            left, middle, right = (
                scores.gather(1, (place + offset) % self.num_angles) for offset in (-1, 0, 1)
            )
            curvature = left - 2 * middle + right  # below 0, unless all tie or are not finite
            curved = (curvature < 0) & curvature.isfinite()
            offset = torch.where(curved, (left - right) / (2 * curvature), 0)
            angle = angle + _to_steps(offset * (360 / self.num_angles))
        return {"angle": ((angle + 180) % 360 - 180).squeeze(1)}

    def same_peak(self, scores: Tensor) -> Tensor:
        """Return which angles lie nearer than 30° to the best one: they always score alike."""
        steps = torch.arange(self.num_angles, device=scores.device)
        distance = self._distance(steps - scores.argmax(1, keepdim=True))
        return distance * 360 < _RIVAL_DEGREES * self.num_angles

    def loss(self, scores: Tensor, element: Element) -> Tensor:
        """Compute the cross-entropy; an angle between two of the grid belongs to both."""
        return F.cross_entropy(scores, self.target(element["angle"]))

    def target(self, angle: Tensor) -> Tensor:
        """Share each angle between the two of the grid beside it, lest resampling be learnt."""
        place = angle.unsqueeze(1) * (self.num_angles / 360)
        steps = torch.arange(self.num_angles, device=angle.device)
        return (1 - self._distance(steps - place)).clamp(min=0)

    def _distance(self, steps: Tensor) -> Tensor:
        """Return the number of steps by the shorter way around."""
        steps = steps % self.num_angles
        return torch.minimum(steps, self.num_angles - steps)


def to_device(element: Element, device: torch.device) -> Element:
    """Move an element to a device; to float32 on Apple's MPS, which has no float64."""
    narrow = device.type == "mps"
    return {
        name: value.to(device, torch.float32 if narrow and value.is_floating_point() else None)
        for name, value in element.items()
    }


def _to_steps(angle: Tensor) -> Tensor:
    return torch.round(angle.double() * _STEPS_PER_DEGREE) / _STEPS_PER_DEGREE
