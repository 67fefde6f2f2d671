"""Rules that restore images without training, and their names in every table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqrestore_lightning import RestoreTransform, TranslationEstimator, Turn
from eqrestore_lightning.evaluation import Restorer, harmonic_rule
from eqrestore_lightning.motions import Element


@dataclass(frozen=True)
class TurnFound:
    """What a `TurnRule` found: `motion`, the element."""

    motion: Element


class TurnRule:
    """Turn images until an angle read off them is what it mostly is for upright images.

    Args:
        angle: From images to degrees, shape `(batch,)`; turning an image adds to it.
        upright: Upright images, floating, shape `(num_images, channels, height, width)`.
    """

    def __init__(self, angle: Callable[[Tensor], Tensor], upright: Tensor) -> None:
        self.angle = angle
        counts = torch.histc(angle(upright) % 360, bins=72, min=0, max=360)
        self.usual = 5 * float(counts.argmax()) + 2.5

    def find(self, x: Tensor) -> TurnFound:
        """Estimate how images were turned."""
        return TurnFound({"angle": self.angle(x) - self.usual})

    def undo(self, y: Tensor, found: TurnFound) -> Tensor:
        """Turn images back."""
        return Turn().undo(y, found.motion)

    def __call__(self, x: Tensor) -> Tensor:
        """Restore images."""
        return self.undo(x, self.find(x))


def border_rule(in_channels: int, spatial_size: Sequence[int], width: int) -> dict[str, Restorer]:
    """Return the rule for images in a blank border, `width` pixels on each side."""
    return {"rule: blank border": RestoreTransform(blank_border(in_channels, spatial_size, width))}


def digit_rules() -> dict[str, Restorer]:
    """Return the rules for MNIST at 32 × 32."""
    return {
        "rule: centre of mass in its window": RestoreTransform(centre_of_mass()),
        **harmonic_rule(),
        **border_rule(1, (32, 32), 4),
    }


@torch.no_grad()
def centre_of_mass() -> TranslationEstimator:
    """Build the network that looks for the center of mass in its window and a clear border.

    MNIST's digits were placed by rounding their center of mass to whole pixels: zero-padded to
    32 × 32 it lies in [15.5, 16.5) on both axes. Four full-size filters measure by how much a place
    misses that, a fifth the mass within two pixels of the border; the score is the negative sum of
    all five, 0 where everything fits. A bias smaller than one gray level keeps the window open at
    its upper end.
    """
    size = 32
    estimator = TranslationEstimator(
        1, (size, size), hidden_channels=[5], kernel_size=["full", 1], bias=True
    )
    position = _position_of_taps(size)
    low, high = 15.5 - position, position - 16.5
    flat = torch.ones(size)
    filters = [
        torch.outer(low, flat),
        torch.outer(high, flat),
        torch.outer(flat, low),
        torch.outer(flat, high),
        _border((size, size), 2),
    ]
    weights = dict(estimator.named_parameters())
    weights["layers.0.weight"].copy_(torch.stack(filters).unsqueeze(1))
    weights["layers.0.bias"].copy_(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]) / 1020)
    weights["layers.1.weight"].fill_(-1.0)
    return estimator


@torch.no_grad()
def blank_border(in_channels: int, spatial_size: Sequence[int], width: int) -> TranslationEstimator:
    """Build the network that looks for a blank border: one full-size filter, no hidden layer.

    The score of a place is the negative sum of what lies on the border. Equal scores, as for images
    that are blank further in, are decided by content.

    Args:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis, pixels.
        width: Of the border, pixels on each side.
    """
    estimator = TranslationEstimator(
        in_channels, spatial_size, hidden_channels=[], kernel_size="full"
    )
    border = _border(spatial_size, width)
    next(estimator.parameters()).copy_(-border.expand(1, in_channels, *spatial_size))
    return estimator


def _position_of_taps(size: int) -> Tensor:
    """Return which pixel each tap of a full-size filter reads."""
    return (torch.arange(size) - (size - 1) // 2) % size


def _border(spatial_size: Sequence[int], width: int) -> Tensor:
    """Return a full-size filter that is 1 on the border of the image, 0 inside."""
    border = torch.zeros(tuple(spatial_size))
    for axis, size in enumerate(spatial_size):
        position = _position_of_taps(size)
        outside = (position < width) | (position >= size - width)
        shape = (-1, *[1] * (len(spatial_size) - axis - 1))
        border = torch.maximum(border, outside.float().reshape(shape))
    return border
