"""What estimators of angles share: a row of scores, one for each angle of a grid."""

import torch
from torch import Tensor

_RIVAL_DEGREES = 30.0  # places nearer to the best one belong to the same peak
_STEPS_PER_DEGREE = 1024  # angles are multiples of a power of two: sums of them are exact


def angle_at(scores: Tensor, place: Tensor, *, sub_grid: bool) -> Tensor:
    """Return the angle at the best place of a grid, or between it and its neighbors.

    Args:
        scores: Shape `(batch, num_angles)`, floating; place `j` stands for `360° · j / num_angles`.
        place: The place with the largest score, int64 of shape `(batch,)`.
        sub_grid: Whether to take the top of the parabola through the best score and its neighbors.

    Returns:
        Degrees, float64 of shape `(batch,)`, from −180 to below 180, a multiple of 1/1024.

    >>> angle_at(torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([1]), sub_grid=True)
    tensor([135.], dtype=torch.float64)
    """
    num_angles = scores.shape[1]
    place = place.unsqueeze(1)
    angle = _to_steps(place * (360 / num_angles))
    if sub_grid and num_angles > 2:
        left, middle, right = (
            scores.gather(1, (place + offset) % num_angles) for offset in (-1, 0, 1)
        )
        curvature = left - 2 * middle + right  # below 0, unless all three tie or are not finite
        curved = (curvature < 0) & curvature.isfinite()
        offset = torch.where(curved, (left - right) / (2 * curvature), 0)
        angle = angle + _to_steps(offset * (360 / num_angles))
    return ((angle + 180) % 360 - 180).squeeze(1)


def angle_margin(scores: Tensor) -> Tensor:
    """Compute how far the best angle is ahead of the best one that lies 30° or more away.

    Neighboring angles always score similarly; an estimate is in doubt only where there is another
    peak.

    Args:
        scores: Shape `(batch, num_angles)`, floating.

    Returns:
        Log-odds, at least 0, shape `(batch,)`, dtype of `scores`; infinite where no angle of the
        grid is that far away.
    """
    return scores.amax(1) - without_peak(scores).amax(1)


def without_peak(scores: Tensor) -> Tensor:
    """Exclude the best angle, and those that lie nearer to it than 30°.

    Args:
        scores: Shape `(batch, num_angles)`, floating.

    Returns:
        A new tensor with −infinity there.
    """
    num_angles = scores.shape[1]
    place = scores.argmax(1, keepdim=True)
    steps = torch.arange(num_angles, device=scores.device)
    distance = (steps - place) % num_angles
    distance = torch.minimum(distance, num_angles - distance)
    return scores.masked_fill(distance * 360 < _RIVAL_DEGREES * num_angles, -torch.inf)


def angle_target(angle: Tensor, num_angles: int) -> Tensor:
    """Share each angle between the two grid angles beside it, in proportion.

    Trained on grid angles alone, a network would learn the traces of resampling instead.

    Args:
        angle: Degrees, floating of shape `(batch,)`.
        num_angles: Number of angles of the grid.

    Returns:
        Probabilities, dtype of `angle`, of shape `(batch, num_angles)`.

    >>> angle_target(torch.tensor([135.0]), 4)
    tensor([[0.0000, 0.5000, 0.5000, 0.0000]])
    """
    place = angle.unsqueeze(1) * (num_angles / 360)
    steps = torch.arange(num_angles, device=angle.device)
    distance = (steps - place) % num_angles
    return (1 - torch.minimum(distance, num_angles - distance)).clamp(min=0)


def _to_steps(angle: Tensor) -> Tensor:
    return torch.round(angle.double() * _STEPS_PER_DEGREE) / _STEPS_PER_DEGREE
