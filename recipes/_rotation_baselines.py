"""Angles without a trained estimator: what a restorer of rotations has to beat."""

from collections.abc import Callable

import torch
from torch import Tensor

from eqrestore_lightning import rotate


def mass_direction(x: Tensor) -> Tensor:
    """Give the direction in which the centre of mass lies off the image's centre.

    It is a rule that knows how the data were made: digits are placed to the pixel, so that upright
    ones all have their centre of mass to the lower right of the centre about which they are turned.

    Args:
        x: Shape `(batch, channels, height, width)`, floating; brightness counts as mass.

    Returns:
        Degrees, counter-clockwise from the right, shape `(batch,)`.

    Source: own.
    """
    mass, up, right = _mass(x)
    return torch.rad2deg(torch.atan2((mass * up).sum((1, 2)), (mass * right).sum((1, 2))))


def principal_axis(x: Tensor) -> Tensor:
    """Give the direction of the longest axis, towards the side with the longer tail.

    Args:
        x: Shape `(batch, channels, height, width)`, floating; brightness counts as mass.

    Returns:
        Degrees, counter-clockwise from the right, shape `(batch,)`.

    Source: second moments for the axis, the third along it for its sign.
    """
    mass, up, right = _mass(x)
    up = up - (mass * up).sum((1, 2), keepdim=True)
    right = right - (mass * right).sum((1, 2), keepdim=True)
    mixed = (mass * up * right).sum((1, 2))
    spread = (mass * right * right).sum((1, 2)) - (mass * up * up).sum((1, 2))
    angle_rad = torch.atan2(2 * mixed, spread) / 2
    cosine, sine = (f(angle_rad).reshape(-1, 1, 1) for f in (torch.cos, torch.sin))
    skewness = (mass * (right * cosine + up * sine) ** 3).sum((1, 2))
    return torch.rad2deg(angle_rad) + torch.where(skewness < 0, 180, 0)


def _mass(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give the share of brightness at each pixel, and how far up and right of the centre it is."""
    mass = x.mean(1)
    height, width = mass.shape[1:]
    up, right = (
        torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
        for size in (height, width)
    )
    share = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-12)
    return share, -up.unsqueeze(1), right


@torch.no_grad()
def gradient_orientation(x: Tensor) -> Tensor:
    """Give the dominant direction of the gradient, as for SIFT key points.

    Args:
        x: Square images of shape `(batch, channels, size, size)`, floating.

    Returns:
        Degrees, counter-clockwise, up to a constant; shape `(batch,)`.

    Source: `kornia.feature.PatchDominantGradientOrientation`; Lowe, 2004.
    """
    from kornia.feature import PatchDominantGradientOrientation

    orientation: Tensor = PatchDominantGradientOrientation(x.shape[-1])(x.mean(1, keepdim=True))
    return torch.rad2deg(orientation)


class Canonical:
    """Turn images until an angle read off them is what it mostly is for upright images.

    Args:
        angle: From images to degrees; turning an image adds to it.
        upright: Images as they should stand, floating of shape `(num_images, channels, height,
            width)`.
    """

    def __init__(self, angle: Callable[[Tensor], Tensor], upright: Tensor) -> None:
        self.angle = angle
        counts = torch.histc(angle(upright) % 360, bins=72, min=0, max=360)
        self.usual = 5 * float(counts.argmax()) + 2.5

    def __call__(self, x: Tensor) -> Tensor:
        """Turn images back."""
        return rotate(x, self.usual - self.angle(x))
