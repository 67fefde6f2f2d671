"""Rules that find motions without training, by name: what a trained restorer has to beat."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from eqrestore_lightning.evaluation._restorers import Finder, Rule
from eqrestore_lightning.motions import QuarterTurn, Shift, Turn
from eqrestore_lightning.nn import ConfidenceEstimator, TranslationEstimator
from eqrestore_lightning.nn._seam_rule import SeamMeasure, SeamRule
from eqrestore_lightning.transforms import RestoreTransform


def seam_rules(
    in_channels: int, *, axes: Sequence[int] | None = None, num_spatial_dims: int = 2
) -> dict[str, Finder]:
    """Return the rules for images without a border, which look for the seam of the wrap-around."""
    measures: tuple[SeamMeasure, ...] = get_args(SeamMeasure)
    return {
        f"rule: {measure.replace('-', ' ')}": RestoreTransform(
            SeamRule(in_channels, axes=axes, measure=measure, num_spatial_dims=num_spatial_dims)
        )
        for measure in measures
    }


def harmonic_rule(*, axes: Sequence[int] | None = None) -> dict[str, Finder]:
    """Return the rule that moves the circular center of mass of an image to its middle."""
    motion = None if axes is None else Shift(tuple(axes))
    estimate = partial(first_harmonic_phase, axes=axes)
    return {"rule: first-harmonic phase": Rule(estimate, motion=motion)}


@torch.no_grad()
def border_rule(in_channels: int, spatial_size: Sequence[int], width: int) -> dict[str, Finder]:
    """Return the rule for a blank border of `width` pixels: one full-size filter, which sums it."""
    estimator = TranslationEstimator(
        in_channels, spatial_size, hidden_channels=[], kernel_size="full"
    )
    border = _border(spatial_size, width)
    next(estimator.parameters()).copy_(-border.expand(1, in_channels, *spatial_size))
    return {"rule: blank border": RestoreTransform(estimator)}


def turn_rules(upright: Tensor) -> dict[str, Finder]:
    """Return the rules that turn images until a direction is what it mostly is for upright ones.

    Source: general intensity direction: Valero-Abundio et al., 2026; gradients: Lowe, 2004.
    """
    directions: dict[str, Callable[[Tensor], Tensor]] = {
        "direction of the center of mass": mass_direction,
        "general intensity direction": partial(mass_direction, by_distance=False),
        "principal axis": principal_axis,
        "gradient orientation": gradient_orientation,
    }
    return {
        f"rule: {name}": Rule(_turned_from_usual(direction, upright), motion=Turn())
        for name, direction in directions.items()
    }


def quarter_rules(upright: Tensor) -> dict[str, Finder]:
    """Return the rules for quarter turns: skies are brighter, and smoother, than the ground."""

    def quarters(direction: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        angle = _turned_from_usual(direction, upright)
        return lambda x: torch.round(angle(x) / 90).long() % 4

    motion = QuarterTurn()
    return {
        "rule: brighter side up": Rule(quarters(mass_direction), motion=motion),
        "rule: smoother side up": Rule(quarters(_smooth_direction), motion=motion),
    }


def confidence_rule(
    classifier: nn.Module, *, in_channels: int = 3, num_angles: int = 4
) -> dict[str, Finder]:
    """Return the rule that asks the classifier: of all turned copies, the surest answer."""
    estimator = ConfidenceEstimator(classifier, in_channels=in_channels, num_angles=num_angles)
    return {f"rule: least entropy of {num_angles} copies": RestoreTransform(estimator)}


def first_harmonic_phase(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Estimate shifts by the circular center of mass; 0 if it lies at index `size // 2`.

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


def mass_direction(x: Tensor, *, by_distance: bool = True) -> Tensor:
    """Compute the direction of the center of mass, degrees counter-clockwise from the right."""
    mass, up, right = _mass(x)
    if not by_distance:
        mass = mass / torch.hypot(up, right).clamp(min=1e-6)
    return torch.rad2deg(torch.atan2((mass * up).sum((1, 2)), (mass * right).sum((1, 2))))


def principal_axis(x: Tensor) -> Tensor:
    """Compute the direction of the longest axis, towards the side with the longer tail."""
    mass, up, right = _mass(x)
    up = up - (mass * up).sum((1, 2), keepdim=True)
    right = right - (mass * right).sum((1, 2), keepdim=True)
    mixed = (mass * up * right).sum((1, 2))
    spread = (mass * right * right).sum((1, 2)) - (mass * up * up).sum((1, 2))
    angle_rad = torch.atan2(2 * mixed, spread) / 2
    cosine, sine = (f(angle_rad).reshape(-1, 1, 1) for f in (torch.cos, torch.sin))
    skewness = (mass * (right * cosine + up * sine) ** 3).sum((1, 2))
    return torch.rad2deg(angle_rad) + torch.where(skewness < 0, 180, 0)


@torch.no_grad()
def gradient_orientation(x: Tensor) -> Tensor:
    """Compute the dominant direction of the gradient of square images, up to a constant."""
    from kornia.feature import PatchDominantGradientOrientation

    dominant = PatchDominantGradientOrientation(x.shape[-1])
    return torch.rad2deg(dominant(x.float().mean(1, keepdim=True)))


def _smooth_direction(x: Tensor) -> Tensor:
    x = x.float()
    steps = x.diff(dim=2)[..., :-1].abs() + x.diff(dim=3)[..., :-1, :].abs()
    return mass_direction(steps) + 180


def _turned_from_usual(
    direction: Callable[[Tensor], Tensor], upright: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return by how many degrees images are turned from the commonest direction of upright ones."""
    counts = torch.histc(direction(upright) % 360, bins=72, min=0, max=360)
    usual = 5 * float(counts.argmax()) + 2.5
    return lambda x: direction(x) - usual


def _mass(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return shares of brightness, and how far up and right of the center each pixel is."""
    mass = x.float().mean(1)
    up, right = (
        torch.arange(size, dtype=mass.dtype, device=x.device) - (size - 1) / 2
        for size in mass.shape[1:]
    )
    share = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-12)
    return share, -up.unsqueeze(1), right


def _border(spatial_size: Sequence[int], width: int) -> Tensor:
    """Return a full-size filter that is 1 on the border of the image, 0 inside."""
    border = torch.zeros(tuple(spatial_size))
    for axis, size in enumerate(spatial_size):
        position = (torch.arange(size) - (size - 1) // 2) % size  # the pixel that each tap reads
        outside = (position < width) | (position >= size - width)
        shape = (-1, *[1] * (len(spatial_size) - axis - 1))
        border = torch.maximum(border, outside.float().reshape(shape))
    return border
