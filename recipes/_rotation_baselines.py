"""Angles without a trained estimator: what a restorer of rotations has to beat."""

from collections.abc import Callable

import torch
from torch import Tensor

from eqrestore_lightning import rotate


def principal_axis(x: Tensor) -> Tensor:
    """Give the direction of the longest axis, towards the side with the longer tail.

    Args:
        x: Shape `(batch, channels, height, width)`, floating; brightness counts as mass.

    Returns:
        Degrees, counter-clockwise from the right, shape `(batch,)`.

    Source: second moments for the axis, the third along it for its sign.
    """
    mass = x.mean(1)
    mass = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-12)
    height, width = mass.shape[1:]
    up = -torch.arange(height, dtype=x.dtype, device=x.device).unsqueeze(1).expand(height, width)
    right = torch.arange(width, dtype=x.dtype, device=x.device).expand(height, width)
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
