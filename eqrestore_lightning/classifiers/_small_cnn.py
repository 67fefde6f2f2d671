"""A small classifier, to have something to stand in front of."""

import itertools

from torch import nn


def small_cnn(in_channels: int, num_classes: int) -> nn.Sequential:
    """Build a plain convolutional classifier for images of about 32 × 32 pixels.

    Three 3 × 3 convolutions with batch normalisation, each followed by max pooling, then two dense
    layers over the 4 × 4 places that remain: accurate on upright data, and as sensitive to shifts
    as such networks are.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of logits.

    Returns:
        A network from `(batch, in_channels, height, width)` to `(batch, num_classes)`.

    Source: own.

    >>> import torch
    >>> small_cnn(1, 10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    widths = (in_channels, 16, 32, 64)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * widths[-1], 128),
        nn.ReLU(),
        nn.Linear(128, num_classes),
    )
