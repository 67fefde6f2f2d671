"""Rules that find shifts without training: what a trained network has to beat."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from eqrestore_lightning.evaluation import Rule
    from eqrestore_lightning.motions import Motion


def untrained_rules(motion: "Motion") -> "dict[str, Rule]":
    """Return the rules that find a motion, by name; none unless it is a shift alone."""
    from eqrestore_lightning.evaluation import Rule
    from eqrestore_lightning.motions import Shift

    if not isinstance(motion, Shift):
        return {}
    axes = motion.axes
    estimates: dict[str, Callable[[Tensor], Tensor]] = {
        "largest difference": lambda x: _largest(x, axes, _difference),
        "largest second difference": lambda x: _largest(x, axes, _second_difference),
        "largest relative difference": lambda x: _largest(x, axes, _relative_difference),
        "center of mass": lambda x: _center_of_mass(x, axes),
    }
    return {name: Rule(estimate, motion=motion) for name, estimate in estimates.items()}


def _largest(
    x: "Tensor", axes: Sequence[int], profile: "Callable[[Tensor, int], Tensor]"
) -> "Tensor":
    """Find where images wrap around: where the profile of each axis is largest."""
    import torch

    return torch.stack([profile(x, axis).argmax(1) for axis in axes], 1)


def _difference(x: "Tensor", axis: int) -> "Tensor":
    """Compare each row with the one before it."""
    return _sum_but(axis, (x - x.roll(1, axis)).abs())


def _second_difference(x: "Tensor", axis: int) -> "Tensor":
    """Compare each step between two rows with the steps beside it."""
    step = x - x.roll(1, axis)
    return _sum_but(axis, (2 * step - step.roll(1, axis) - step.roll(-1, axis)).abs())


def _relative_difference(x: "Tensor", axis: int) -> "Tensor":
    """Divide the difference of two rows by the differences beside it."""
    difference = _difference(x, axis)
    return difference / (difference.roll(1, 1) + difference.roll(-1, 1) + 1e-6)


def _center_of_mass(x: "Tensor", axes: Sequence[int]) -> "Tensor":
    """Find how far the circular center of mass is from the middle."""
    import torch

    shifts = []
    for axis in axes:
        size = x.shape[axis]
        turns = torch.exp(2j * math.pi * torch.arange(size, device=x.device) / size)
        center = (_sum_but(axis, x) * turns).sum(1).angle() * size / (2 * math.pi)
        shifts.append((center - (size - 1) / 2).round().long())
    return torch.stack(shifts, 1)


def _sum_but(axis: int, x: "Tensor") -> "Tensor":
    """Sum over all axes but the batch and one: `(batch, size)`."""
    return x.movedim(axis, -1).flatten(1, -2).sum(1)
