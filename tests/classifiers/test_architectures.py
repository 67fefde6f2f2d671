import re
from unittest import mock

import pytest
import torch
from torch import nn
from torchvision import models

from eqrestore_lightning.classifiers import build_classifier, register_classifier
from eqrestore_lightning.classifiers._architectures import _ARCHITECTURES, list_classifiers
from eqrestore_lightning.classifiers._small_cnn import small_cnn

NAMES = ["densenet121", "mobilenet_v2", "resnet18", "vgg16"]


@pytest.mark.parametrize("stem", ["small", "original"])
@pytest.mark.parametrize("name", NAMES)
def test_images_of_32_and_40_pixels_become_logits(name, stem):
    network = build_classifier(name, 3, 7, stem=stem).eval()
    for size in (32, 40):
        assert network(torch.rand(2, 3, size, size)).shape == (2, 7)


def _last_map(network, name, x):
    sizes = []
    hook = network.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: sizes.append(tuple(output.shape[2:]))
    )
    network(x)
    hook.remove()
    return sizes[0]


@pytest.mark.parametrize(
    ("name", "layer", "small", "original"),
    [
        ("densenet121", "features.denseblock4", (4, 5), (1, 1)),
        ("mobilenet_v2", "features.18", (4, 5), (1, 2)),
        ("resnet18", "layer4", (4, 5), (1, 2)),
    ],
)
def test_a_small_stem_keeps_the_resolution(name, layer, small, original):
    x = torch.rand(1, 3, 32, 40)
    for stem, expected in (("small", small), ("original", original)):
        network = build_classifier(name, 3, 10, stem=stem).eval()
        assert _last_map(network, layer, x) == expected


@pytest.mark.parametrize("name", ["densenet121", "resnet18"])
def test_the_original_stem_is_torchvisions_network(name):
    torch.manual_seed(0)
    ours = build_classifier(name, 3, 10, stem="original")
    torch.manual_seed(0)
    theirs = getattr(models, name)(num_classes=10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for tensor, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(tensor, other)


@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_of_channels(name):
    for stem in ("small", "original"):
        network = build_classifier(name, 1, 10, stem=stem).eval()
        assert network(torch.rand(2, 1, 32, 32)).shape == (2, 10)


def test_width_is_a_factor_on_the_channels():
    def size(network):
        return sum(parameter.numel() for parameter in network.parameters())

    for name in ("vgg16", "mobilenet_v2"):
        narrow = build_classifier(name, 3, 10, width=0.25)
        assert size(narrow) < size(build_classifier(name, 3, 10)) / 5
        assert narrow.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [
        ("small_cnn_1d", (32,), nn.Conv1d),
        ("small_cnn", (32, 40), nn.Conv2d),
        ("small_cnn_3d", (32, 32, 40), nn.Conv3d),
    ],
)
def test_signals_images_and_volumes(name, size, kind):
    network = build_classifier(name, 2, 10)
    assert network(torch.rand(3, 2, *size)).shape == (3, 10)
    assert sum(isinstance(layer, kind) for layer in network.modules()) == 3


def test_an_architecture_is_a_function_with_a_decorator():
    with mock.patch.dict(_ARCHITECTURES):

        @register_classifier
        def flat(in_channels, num_classes, *, width=1.0):
            return nn.Sequential(
                nn.Flatten(), nn.Linear(in_channels * 64, round(width * num_classes))
            )

        assert "flat" in list_classifiers()
        x = torch.rand(2, 1, 8, 8)
        assert build_classifier("flat", 1, 10, stem="original")(x).shape == (2, 10)
        assert build_classifier("flat", 1, 10, width=0.5)(x).shape == (2, 5)


def _rejects(message, *args, **options):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_classifier(*args, **options)


def test_rejections():
    _rejects(
        f"Expected `architecture` to be one of {list_classifiers()}, but got 'nowhere'.",
        "nowhere",
        3,
        10,
    )
    _rejects(
        "Expected `stem` to be one of ('small', 'original'), but got 'none'.",
        *("resnet18", 3, 10),
        stem="none",
    )
    _rejects("Expected `width` to be above 0, but got 0.0.", "vgg16", 3, 10, width=0.0)
    _rejects(
        "Expected `width` to be 1 for 'resnet18', whose number of channels is fixed, but got 0.5.",
        *("resnet18", 3, 10),
        width=0.5,
    )
    with pytest.raises(
        ValueError, match=r"^Expected `num_spatial_dims` to be 1, 2 or 3, but got 4\.$"
    ):
        small_cnn(1, 10, num_spatial_dims=4)
