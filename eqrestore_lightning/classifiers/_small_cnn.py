"""A small classifier, to have something to stand in front of."""

import itertools
from typing import Any, Literal

from torch import nn

_KINDS: dict[int, tuple[Any, Any, Any]] = {
    2: (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d),
}


def small_cnn(
    in_channels: int, num_classes: int, *, num_spatial_dims: Literal[2, 3] = 2
) -> nn.Sequential:
    """Build a plain convolutional classifier for images or volumes of about 32 pixels a side.

    Three convolutions with 3 taps an axis and batch normalisation, each followed by max pooling or,
    for volumes, strided instead, then two dense layers over the 4 places an axis that remain:
    accurate on upright data, and as sensitive to shifts as such networks are.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of logits.
        num_spatial_dims: Number of axes, 2 or 3; volumes have half as many channels inside.

    Returns:
        A network from `(batch, in_channels, *spatial)` to `(batch, num_classes)`.

    Raises:
        ValueError: If `num_spatial_dims` is neither 2 nor 3.

    Source: own.

    >>> import torch
    >>> small_cnn(1, 10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    if num_spatial_dims not in _KINDS:
        raise ValueError(f"Expected `num_spatial_dims` to be 2 or 3, but got {num_spatial_dims}.")
    conv, norm, mean_pool = _KINDS[num_spatial_dims]
    widths = (in_channels, 16, 32, 64) if num_spatial_dims == 2 else (in_channels, 8, 16, 32)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [
            conv(before, after, 3, stride=num_spatial_dims - 1, padding=1, bias=False),
            norm(after),
            nn.ReLU(),
            nn.MaxPool2d(2) if num_spatial_dims == 2 else nn.Identity(),
        ]
    return nn.Sequential(
        *layers,
        mean_pool(4),
        nn.Flatten(),
        nn.Linear(4**num_spatial_dims * widths[-1], 128),
        nn.ReLU(),
        nn.Linear(128, num_classes),
    )
