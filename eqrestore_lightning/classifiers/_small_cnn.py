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

    Three convolutions with 3 taps along each axis and batch normalization, each followed by max
    pooling (volumes: a stride instead), then two dense layers over the 4 positions that remain
    along each axis: accurate on upright images, and as sensitive to shifts as such networks are.

    Args:
        in_channels: Number of channels of the images.
        num_classes: Number of logits.
        num_spatial_dims: Number of spatial axes: 1 (signals), 2 (images) or 3 (volumes, with half
            as many hidden channels).

    Returns:
        A network from `(batch, in_channels, *spatial)` to `(batch, num_classes)`.

    Raises:
        ValueError: If `num_spatial_dims` is not 1, 2 or 3.

    >>> import torch
    >>> small_cnn(1, 10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
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
