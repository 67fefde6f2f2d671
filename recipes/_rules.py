"""Restoring by rules that know how the data were made: nothing is trained."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eqrestore_lightning import TranslationEstimator

SIZE = 32


@torch.no_grad()
def centre_of_mass_rule() -> TranslationEstimator:
    """Build the network that looks for the centre of mass in its window and a clear border.

    MNIST's digits were placed by rounding their centre of mass to whole pixels: zero-padded to
    32 × 32 it lies in [15.5, 16.5) on both axes. Four full-size filters measure by how much a place
    misses that, a fifth the mass within two pixels of the border; the score is what is left after
    subtracting all five, 0 where nothing is amiss. A bias below what one grey level can do keeps
    the window open on its upper side.
    """
    estimator = TranslationEstimator(
        1, (SIZE, SIZE), hidden_channels=[5], kernel_size=["full", 1], bias=True
    )
    position = (torch.arange(SIZE) - (SIZE - 1) // 2) % SIZE  # of the pixel that each tap reads
    low, high = 15.5 - position, position - 16.5
    flat = torch.ones(SIZE)
    border = ((position < 2) | (position >= SIZE - 2)).float()
    filters = [
        torch.outer(low, flat),
        torch.outer(high, flat),
        torch.outer(flat, low),
        torch.outer(flat, high),
        torch.maximum(border[:, None], border[None, :]),
    ]
    weights = dict(estimator.named_parameters())
    weights["layers.0.weight"].copy_(torch.stack(filters).unsqueeze(1))
    weights["layers.0.bias"].copy_(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]) / 1020)
    weights["layers.1.weight"].fill_(-1.0)
    return estimator


@torch.no_grad()
def blank_border_rule(
    in_channels: int, spatial_size: Sequence[int], width: int
) -> TranslationEstimator:
    """Build the network that looks for a blank border: one full-size filter, no hidden layer.

    The score of a place is what lies on the border, negated: 0 where nothing does. Among places
    that tie, as for images that are blank further in, content decides.

    Args:
        in_channels: Channels of the images.
        spatial_size: Their size, pixels.
        width: Of the border, pixels on each side.
    """
    estimator = TranslationEstimator(
        in_channels, spatial_size, hidden_channels=[], kernel_size="full"
    )
    border = torch.zeros(tuple(spatial_size))
    for axis, size in enumerate(spatial_size):
        position = (torch.arange(size) - (size - 1) // 2) % size  # of the pixel that a tap reads
        outside = (position < width) | (position >= size - width)
        border = torch.maximum(
            border, outside.float().reshape(-1, *[1] * (len(spatial_size) - axis - 1))
        )
    next(estimator.parameters()).copy_(-border.expand(1, in_channels, *spatial_size))
    return estimator


def first_harmonic_phase(images: Tensor) -> Tensor:
    """Estimate shifts by the circular centre of mass, expected in the middle.

    Args:
        images: Floating, of shape `(batch, channels, *spatial)`.

    Returns:
        Pixels, int64 of shape `(batch, num_spatial_dims)`.
    """
    mass = images.sum(1)
    shifts = []
    for axis, size in enumerate(images.shape[2:], start=1):
        turns = torch.exp(2j * math.pi * torch.arange(size) / size)
        others = [other for other in range(1, mass.ndim) if other != axis]
        centre = (mass.sum(others) * turns).sum(1).angle() * size / (2 * math.pi)
        shift = (centre - size // 2).round().long()
        shifts.append((shift + size // 2) % size - size // 2)
    return torch.stack(shifts, 1)


def largest_seam(images: Tensor) -> Tensor:
    """Estimate shifts by the place, on each axis, at which neighbours differ most.

    An image that wraps around has a seam there; nothing else tells the shift of a photograph.

    Args:
        images: Of shape `(batch, channels, *spatial)`.

    Returns:
        Pixels, int64 of shape `(batch, num_spatial_dims)`.
    """
    shifts = []
    for axis in range(2, images.ndim):
        step = (images.float() - images.float().roll(1, axis)).abs()
        others = [other for other in range(1, images.ndim) if other != axis]
        size = images.shape[axis]
        place = step.sum(others).argmax(1)
        shifts.append((place + size // 2) % size - size // 2)
    return torch.stack(shifts, 1)
