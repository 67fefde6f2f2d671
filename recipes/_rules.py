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


def turn_rules(upright: Tensor) -> dict[str, Restorer]:
    """Return the rules for turned images; they learn from `upright` ones what upright means."""
    return {
        "rule: direction of the centre of mass": TurnRule(mass_direction, upright),
        "rule: general intensity direction": TurnRule(intensity_direction, upright),
        "rule: principal axis": TurnRule(principal_axis, upright),
        "rule: gradient orientation": TurnRule(gradient_orientation, upright),
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


def mass_direction(images: Tensor) -> Tensor:
    """Compute the direction of the center of mass, seen from the center of the image.

    MNIST's digits were placed to the pixel, so that upright ones all have their center of mass to
    the lower right of the center about which they are turned.

    Args:
        images: Floating, shape `(batch, channels, height, width)`; brightness counts as mass.

    Returns:
        Degrees, counter-clockwise from the right, shape `(batch,)`.
    """
    mass, up, right = _mass(images)
    return torch.rad2deg(torch.atan2((mass * up).sum((1, 2)), (mass * right).sum((1, 2))))


def intensity_direction(images: Tensor) -> Tensor:
    """Compute the mean direction of brightness: every pixel counts alike, however far out it lies.

    Takes and returns what `mass_direction` does; the general intensity direction (GID) of
    Valero-Abundio et al., 2026.
    """
    mass, up, right = _mass(images)
    distance = torch.hypot(up, right).clamp(min=1e-6)
    return torch.rad2deg(
        torch.atan2((mass * up / distance).sum((1, 2)), (mass * right / distance).sum((1, 2)))
    )


def principal_axis(images: Tensor) -> Tensor:
    """Compute the direction of the longest axis, towards the side with the longer tail.

    Second moments determine the axis, the third moment along it determines the side; takes and
    returns what `mass_direction` does.
    """
    mass, up, right = _mass(images)
    up = up - (mass * up).sum((1, 2), keepdim=True)
    right = right - (mass * right).sum((1, 2), keepdim=True)
    mixed = (mass * up * right).sum((1, 2))
    spread = (mass * right * right).sum((1, 2)) - (mass * up * up).sum((1, 2))
    angle_rad = torch.atan2(2 * mixed, spread) / 2
    cosine, sine = (f(angle_rad).reshape(-1, 1, 1) for f in (torch.cos, torch.sin))
    skewness = (mass * (right * cosine + up * sine) ** 3).sum((1, 2))
    return torch.rad2deg(angle_rad) + torch.where(skewness < 0, 180, 0)


@torch.no_grad()
def gradient_orientation(images: Tensor) -> Tensor:
    """Compute the dominant direction of the gradient, as for SIFT key points (Lowe, 2004).

    Takes square images and returns what `mass_direction` does, up to a constant.
    """
    from kornia.feature import PatchDominantGradientOrientation

    dominant = PatchDominantGradientOrientation(images.shape[-1])
    return torch.rad2deg(dominant(images.mean(1, keepdim=True)))


def _mass(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the share of brightness at each pixel, and how far up and right of the center it is.

    Shapes are `(batch, height, width)`, `(height, 1)` and `(width,)`.
    """
    mass = images.mean(1)
    up, right = (
        torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2
        for size in mass.shape[1:]
    )
    share = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-12)
    return share, -up.unsqueeze(1), right


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
