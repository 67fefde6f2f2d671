"""The paper's classifiers, from torchvision, for images of 32 to 40 pixels."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from torch import nn
from torchvision import models
from torchvision.models.vgg import VGG, make_layers

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.classifiers._small_cnn import small_cnn

Architecture: TypeAlias = str  # one of `list_classifiers()`
Stem: TypeAlias = Literal["small", "original"]

_ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry("an architecture", "architecture")
register_classifier = _ARCHITECTURES.register
list_classifiers = _ARCHITECTURES.names

_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def build_classifier(
    architecture: str,
    in_channels: int,
    num_classes: int,
    *,
    stem: Stem = "small",
    width: float = 1.0,
) -> nn.Module:
    """Build a classifier with fresh weights.

    Architectures are added with `@register_classifier`: functions of `in_channels` and
    `num_classes` that return a network, and that may take `stem` and `width` as keywords.

    Args:
        architecture: Its name: torchvision's `"vgg16"` (with batch
            normalization), `"resnet18"`, `"densenet121"` and `"mobilenet_v2"`; `"small_cnn"`, for
            signals `"small_cnn_1d"` and for volumes `"small_cnn_3d"`; and whatever
            `register_classifier` added.
        in_channels: Number of channels of the images.
        num_classes: Number of logits.
        stem: `"original"` is torchvision's, designed for 224 pixels: it reduces the resolution at
            once, which makes it cheap enough to train on a CPU. `"small"` keeps the resolution for
            as long as is usual for CIFAR: a first convolution of 3 × 3 without stride and without
            pooling after it (ResNet, DenseNet), or without the first two strides (MobileNet).
            Architectures without such a choice ignore it; VGG has one dense layer in place of three
            of 4,096.
        width: Factor on the number of channels, for `"vgg16"` and `"mobilenet_v2"`.

    Returns:
        A network from `(batch, in_channels, *spatial)` to `(batch, num_classes)`.

    Raises:
        ValueError: If `architecture` or `stem` is unknown, or if `width` is not above 0, or not 1
            for an architecture without such a factor.

    Source: Table 2 of the paper; torchvision; the small stems are those usual for CIFAR.

    >>> import torch
    >>> build_classifier("resnet18", 3, 10).eval()(torch.zeros(2, 3, 40, 40)).shape
    torch.Size([2, 10])
    """
    build = _ARCHITECTURES.find(architecture)
    taken = inspect.signature(build).parameters
    if stem not in get_args(Stem):
        raise ValueError(f"Expected `stem` to be one of {get_args(Stem)}, but got {stem!r}.")
    if not width > 0:
        raise ValueError(f"Expected `width` to be above 0, but got {width}.")
    if width != 1 and "width" not in taken:
        raise ValueError(
            f"Expected `width` to be 1 for {architecture!r}, whose number of channels is fixed, "
            f"but got {width}."
        )
    given: dict[str, Any] = {"stem": stem, "width": width}
    return build(in_channels, num_classes, **{name: given[name] for name in given if name in taken})


@register_classifier
def vgg16(in_channels: int, num_classes: int, *, width: float = 1.0) -> nn.Module:
    """Build torchvision's VGG-16 with batch normalization, and with one dense layer."""
    channels = [size if isinstance(size, str) else max(1, round(size * width)) for size in _VGG16]
    network: nn.Module = VGG(make_layers(channels, batch_norm=True), num_classes=num_classes)
    last = channels[-2]
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier = nn.Linear(int(last), num_classes)
    _replace_input(network, "features.0", in_channels)
    return network


@register_classifier
def resnet18(in_channels: int, num_classes: int, *, stem: Stem = "small") -> nn.Module:
    """Build torchvision's ResNet-18."""
    network: nn.Module = models.resnet18(num_classes=num_classes)
    if stem == "small":
        network.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    else:
        _replace_input(network, "conv1", in_channels)
    return network


@register_classifier
def densenet121(in_channels: int, num_classes: int, *, stem: Stem = "small") -> nn.Module:
    """Build torchvision's DenseNet-121."""
    network: nn.Module = models.densenet121(num_classes=num_classes)
    if stem == "small":
        features = network.get_submodule("features")
        features.conv0 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        features.pool0 = nn.Identity()
        nn.init.kaiming_normal_(features.conv0.weight)
    else:
        _replace_input(network, "features.conv0", in_channels)
    return network


@register_classifier
def mobilenet_v2(
    in_channels: int, num_classes: int, *, stem: Stem = "small", width: float = 1.0
) -> nn.Module:
    """Build torchvision's MobileNet v2."""
    network: nn.Module = models.mobilenet_v2(num_classes=num_classes, width_mult=width)
    _replace_input(network, "features.0.0", in_channels)
    if stem == "small":
        strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        for conv in strided[:2]:
            conv.stride = (1, 1)
    return network


register_classifier(small_cnn)


@register_classifier
def small_cnn_1d(in_channels: int, num_classes: int) -> nn.Module:
    """Build `small_cnn` for signals."""
    return small_cnn(in_channels, num_classes, num_spatial_dims=1)


@register_classifier
def small_cnn_3d(in_channels: int, num_classes: int) -> nn.Module:
    """Build `small_cnn` for volumes."""
    return small_cnn(in_channels, num_classes, num_spatial_dims=3)


def _replace_input(network: nn.Module, name: str, in_channels: int) -> None:
    """Replace the first convolution, of three channels, with one of `in_channels`."""
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
