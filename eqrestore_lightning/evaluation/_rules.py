"""Rules that find shifts without training: what a trained restorer has to beat."""

import math
from collections.abc import Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from eqrestore_lightning.evaluation._restorers import Restorer, Rule
from eqrestore_lightning.motions import Shift
from eqrestore_lightning.nn import SeamMeasure, SeamRule
from eqrestore_lightning.transforms import RestoreTransform


def seam_rules(
    in_channels: int, *, axes: Sequence[int] | None = None, num_spatial_dims: int = 2
) -> dict[str, Restorer]:
    """Return the rules for images without a border, which look for the seam of the wrap-around.

    Args:
        in_channels: Channels of the images.
        axes: The axes along which images may have been shifted; all by default.
        num_spatial_dims: Number of spatial axes of the images.

    Returns:
        Name of each rule, as it appears in tables, to a restorer.

    >>> list(seam_rules(3))[2:]
    ['rule: relative difference', 'rule: relative second difference']
    """
    measures: tuple[SeamMeasure, ...] = get_args(SeamMeasure)
    return {
        f"rule: {measure.replace('-', ' ')}": RestoreTransform(
            SeamRule(in_channels, axes=axes, measure=measure, num_spatial_dims=num_spatial_dims)
        )
        for measure in measures
    }


def harmonic_rule(*, axes: Sequence[int] | None = None) -> dict[str, Restorer]:
    """Return the rule that moves the circular center of mass of an image to its middle.

    Args:
        axes: The axes along which images may have been shifted; all by default.

    Returns:
        Name of the rule to a restorer.

    >>> list(harmonic_rule())
    ['rule: first-harmonic phase']
    """
    motion = None if axes is None else Shift(tuple(axes))
    estimate = partial(first_harmonic_phase, axes=axes)
    return {"rule: first-harmonic phase": Rule(estimate, motion=motion)}


def first_harmonic_phase(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Estimate shifts by the circular center of mass along each axis.

    Args:
        x: Images of shape `(batch, channels, *spatial)`, entries at least 0.
        axes: The axes along which they may have been shifted, negative; all by default.

    Returns:
        Pixels, int64 of shape `(batch, num_axes)`; 0 if the center lies at index `size // 2`.

    >>> x = torch.zeros(1, 1, 5, 8)
    >>> x[0, 0, 1, 5] = 1.0
    >>> first_harmonic_phase(x)
    tensor([[-1,  1]])
    """
    shifts = []
    for axis in range(2 - x.ndim, 0) if axes is None else axes:
        size = x.shape[axis]
        turns = torch.exp(2j * math.pi * torch.arange(size, device=x.device) / size)
        mass = x.double().movedim(axis, -1).flatten(1, -2).sum(1)
        center = (mass * turns).sum(1).angle() * size / (2 * math.pi)
        shift = (center - size // 2).round().long()
        shifts.append((shift + size // 2) % size - size // 2)
    return torch.stack(shifts, 1)
