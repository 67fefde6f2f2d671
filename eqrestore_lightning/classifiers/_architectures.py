"""The paper's classifiers, from torchvision, for images of 32 to 40 pixels."""

from typing import Literal, TypeAlias, get_args

from torch import nn
from torchvision import models
from torchvision.models.vgg import VGG, make_layers

from eqrestore_lightning.classifiers._small_cnn import small_cnn

Architecture: TypeAlias = Literal[
    "densenet121", "mobilenet_v2", "resnet18", "small_cnn", "small_cnn_3d", "vgg16"
]
Stem: TypeAlias = Literal["small", "original"]
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def build_classifier(
    architecture: Architecture,
    in_channels: int,
    num_classes: int,
    *,
    stem: Stem = "small",
    width: float = 1.0,
) -> nn.Module:
    """Build a classifier with fresh weights.

    Args:
        architecture: `"vgg16"` (with batch normalisation), `"resnet18"`, `"densenet121"`,
            `"mobilenet_v2"`, all torchvision's, or `"small_cnn"` and, for volumes,
            `"small_cnn_3d"`.
        in_channels: Channels of the images.
        num_classes: Number of logits.
        stem: `"original"` is torchvision's, made for 224 pixels, which shrinks images at once and
            is what a CPU can train; `"small"` keeps the resolution for as long as is usual for
            CIFAR: a first convolution of 3 × 3 without stride and no pooling after it (ResNet,
            DenseNet), or the first two strides taken away (MobileNet). VGG is the same in both, but
            for its dense layers, one of which stands in place of three of 4,096.
        width: Factor on the number of channels, for `"vgg16"` and `"mobilenet_v2"`.

    Returns:
        A network from `(batch, in_channels, *spatial)` to `(batch, num_classes)`.

    Raises:
        ValueError: If `architecture` or `stem` is unknown, `width` is not above 0, or not 1 where
            the architecture has no such factor.

    Source: Table 2 of the paper; torchvision; the small stems are those usual for CIFAR.

    >>> import torch
    >>> build_classifier("resnet18", 3, 10).eval()(torch.zeros(2, 3, 40, 40)).shape
    torch.Size([2, 10])
    """
    if architecture not in get_args(Architecture):
        raise ValueError(
            f"Expected `architecture` to be one of {get_args(Architecture)}, "
            f"but got {architecture!r}."
        )
    if stem not in get_args(Stem):
        raise ValueError(f"Expected `stem` to be one of {get_args(Stem)}, but got {stem!r}.")
    if not width > 0 or (width != 1 and architecture not in ("vgg16", "mobilenet_v2")):
        raise ValueError(
            f"Expected `width` to be above 0, and 1 for {architecture!r} unless it is vgg16 or "
            f"mobilenet_v2, but got {width}."
        )
    if architecture == "vgg16":
        return _vgg16(in_channels, num_classes, width)
    if architecture == "resnet18":
        return _resnet18(in_channels, num_classes, stem)
    if architecture == "densenet121":
        return _densenet121(in_channels, num_classes, stem)
    if architecture == "mobilenet_v2":
        return _mobilenet_v2(in_channels, num_classes, stem, width)
    return small_cnn(
        in_channels, num_classes, num_spatial_dims=3 if architecture == "small_cnn_3d" else 2
    )


def _vgg16(in_channels: int, num_classes: int, width: float) -> nn.Module:
    channels = [size if isinstance(size, str) else max(1, round(size * width)) for size in _VGG16]
    network: nn.Module = VGG(make_layers(channels, batch_norm=True), num_classes=num_classes)
    last = channels[-2]
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier = nn.Linear(int(last), num_classes)
    _replace_input(network, "features.0", in_channels)
    return network


def _resnet18(in_channels: int, num_classes: int, stem: Stem) -> nn.Module:
    network: nn.Module = models.resnet18(num_classes=num_classes)
    if stem == "small":
        network.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    else:
        _replace_input(network, "conv1", in_channels)
    return network


def _densenet121(in_channels: int, num_classes: int, stem: Stem) -> nn.Module:
    network: nn.Module = models.densenet121(num_classes=num_classes)
    if stem == "small":
        features = network.get_submodule("features")
        features.conv0 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        features.pool0 = nn.Identity()
        nn.init.kaiming_normal_(features.conv0.weight)
    else:
        _replace_input(network, "features.conv0", in_channels)
    return network


def _mobilenet_v2(in_channels: int, num_classes: int, stem: Stem, width: float) -> nn.Module:
    network: nn.Module = models.mobilenet_v2(num_classes=num_classes, width_mult=width)
    _replace_input(network, "features.0.0", in_channels)
    if stem == "small":
        strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        for conv in strided[:2]:
            conv.stride = (1, 1)
    return network


def _replace_input(network: nn.Module, name: str, in_channels: int) -> None:
    """Give the first convolution, made for three channels, another number of them."""
    conv = network.get_submodule(name)
    if not isinstance(conv, nn.Conv2d) or conv.in_channels == in_channels:
        return
    parent, _, child = name.rpartition(".")
    replaced = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    setattr(network.get_submodule(parent), child, replaced)
