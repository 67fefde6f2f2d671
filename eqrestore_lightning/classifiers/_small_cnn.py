"""A small classifier, for examples and tests."""

import itertools
from typing import Any, Literal

from torch import nn

_KINDS: dict[int, tuple[Any, Any, Any]] = {
    1: (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d),
    2: (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d),
}


def small_cnn(
    in_channels: int, num_classes: int, *, num_spatial_dims: Literal[1, 2, 3] = 2
) -> nn.Sequential:
    """Build a plain convolutional classifier for about 32 pixels along each axis.

    Three convolutions and two dense layers: accurate on upright images, and as sensitive to shifts
    as such networks are.
    """
    if num_spatial_dims not in _KINDS:
        raise ValueError(
            f"Expected `num_spatial_dims` to be 1, 2 or 3, but got {num_spatial_dims}."
        )
    conv, norm, mean_pool = _KINDS[num_spatial_dims]
    volumes = num_spatial_dims == 3
    widths = (in_channels, 8, 16, 32) if volumes else (in_channels, 16, 32, 64)
    max_pool = nn.MaxPool1d if num_spatial_dims == 1 else nn.MaxPool2d
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [
            conv(before, after, 3, stride=2 if volumes else 1, padding=1, bias=False),
            norm(after),
            nn.ReLU(),
            nn.Identity() if volumes else max_pool(2),
        ]
    return nn.Sequential(
        *layers,
        mean_pool(4),
        nn.Flatten(),
        nn.Linear(4**num_spatial_dims * widths[-1], 128),
        nn.ReLU(),
        nn.Linear(128, num_classes),
    )
