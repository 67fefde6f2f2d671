import math
import re

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from eqrestore_lightning.nn import CircularConv1d, CircularConv2d
from eqrestore_lightning.testing import audit, equivariance_error
from eqrestore_lightning.testing._audit import audit_table, draw_audit


def _first_loss(layers):
    return next((layer for layer in layers if layer.reason), None)


def _circular(**changes):
    """Build a network of circular convolutions, with some layers in the place of others."""
    torch.manual_seed(0)
    layers = {
        "a": CircularConv2d(1, 6, 3),
        "a relu": nn.ReLU(),
        "b": CircularConv2d(6, 6, 3, dilation=2),
        "b norm": nn.BatchNorm2d(6),
        "b relu": nn.ReLU(inplace=True),
        "c": nn.Conv2d(6, 6, 5, padding="same", padding_mode="circular"),
        "c relu": nn.ReLU(),
        "d": CircularConv2d(6, 2, 16),
    }
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, changes.get(name.replace(" ", "_"), layer))
    return network


@pytest.fixture
def x():
    return torch.rand(2, 1, 16, 16)


def test_a_circular_network_loses_nothing(x):
    layers = audit(_circular(), x)
    assert [layer.name for layer in layers] == list(dict(_circular().named_children()))
    assert _first_loss(layers) is None
    assert max(layer.error for layer in layers) < 1e-5
    assert max(layer.own_error for layer in layers) < 1e-5


BROKEN = {  # place, layer put there, reason
    "zero padding": ("b", nn.Conv2d(6, 6, 3, padding=1), "zero padding"),
    "reflection": ("b", nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"), "reflect padding"),
    "no padding": ("c", nn.Conv2d(6, 6, 1 + 1, padding=0), "no padding"),
    "stride": ("b", nn.Conv2d(6, 6, 2, stride=2), "stride 2"),
    "stride and padding": ("c", nn.Conv2d(6, 6, 3, stride=2, padding=1), "stride 2, zero padding"),
    "max pooling": ("c_relu", nn.MaxPool2d(2), "pooling with stride 2"),
    "mean pooling": ("c_relu", nn.AvgPool2d((2, 4)), "pooling with stride 2×4"),
    "padded pooling": ("b", nn.MaxPool2d(3, 1, 1), "padding"),
    "adaptive pooling": ("c_relu", nn.AdaptiveAvgPool2d(4), "pooling with stride 4"),
    "odd size": ("b", nn.AvgPool2d(3, 3), "pooling with stride 3, a size of 16 × 16, not a "
                 "multiple of the stride"),
    "flattening": ("d", nn.Flatten(), "flattening"),
    "bias": ("a_relu", nn.LayerNorm((6, 16, 16)), "dependence on position"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_the_layer_broken_on_purpose_is_found(name, x):
    place, layer, reason = BROKEN[name]
    if isinstance(layer, nn.LayerNorm):
        nn.init.uniform_(layer.weight)
    network = _circular(**{place: layer})
    if place != "d" and tuple(audit(network[:-1], x)[-1].size) != (16, 16):
        network = network[:-1]  # its last filter is as large as the image
    layers = audit(network, x)
    lost = _first_loss(layers)
    assert lost.name == place.replace("_", " ")
    assert lost.reason == reason
    assert lost.kind == type(layer).__name__
    assert lost.own_error > 1e-3
    before = layers[: layers.index(lost)]
    assert max(one.error for one in before) < 1e-5


def test_errors_are_those_of_the_network_up_to_there(x):
    network = _circular(b=nn.Conv2d(6, 6, 3, padding=1)).eval()
    for number, layer in enumerate(audit(network, x), start=1):
        expected = equivariance_error(network[:number], x)
        assert layer.error == pytest.approx(expected, rel=1e-4, abs=1e-6)
        with torch.no_grad():
            inside = network[: number - 1](x)
        own = equivariance_error(network[number - 1], inside)
        assert layer.own_error == pytest.approx(own, rel=1e-4, abs=1e-6)


def test_stride_and_border_are_told_apart(x):
    both = audit(nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1)), x)[0]
    stride = audit(
        nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1, padding_mode="circular")), x
    )[0]
    assert 0.01 < both.border_error < both.own_error
    assert stride.border_error < 1e-6 < stride.own_error
    assert stride.reason == "stride 2"


def test_global_pooling_keeps_what_there_was(x):
    layers = audit(nn.Sequential(*_circular(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), x)
    assert _first_loss(layers) is None
    assert layers[-2].size == (1, 1)
    assert layers[-1].size == ()


class _LeNet(nn.Module):
    """The article's network, at a size of 16: pooling and flattening are no layers."""

    def __init__(self):
        super().__init__()
        self.conv = CircularConv2d(1, 3, 5)
        self.fc1 = nn.Linear(3 * 8 * 8, 10)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(10, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv(x).relu(), 2)
        return self.fc2(self.act(self.fc1(x.flatten(1))))


class _Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = CircularConv2d(1, 3, 3), CircularConv2d(3, 3, 3)

    def forward(self, x):
        return self.b(self.a(x) + torch.linspace(0, 1, x.shape[-1]))


class _Shrunk(_Positions):
    def forward(self, x):
        return self.b(self.a(x)[:, :, ::2, ::2])


@pytest.mark.parametrize(
    ("network", "name", "reason"),
    [
        (_LeNet(), "before fc1", "resizing, flattening"),
        (_Positions(), "before b", "a function between layers"),
        (_Shrunk(), "before b", "resizing"),
    ],
)
def test_functions_between_layers_are_found(network, name, reason, x):
    layers = audit(network, x)
    lost = _first_loss(layers)
    assert (lost.name, lost.kind, lost.reason) == (name, "function", reason)
    assert math.isnan(lost.own_error)
    assert lost.error > 1e-3
    assert layers[0].error < 1e-5


def test_signals(x):
    network = nn.Sequential(CircularConv1d(2, 3, 3), nn.ReLU(), nn.Conv1d(3, 1, 3, padding=1))
    lost = _first_loss(audit(network, torch.rand(1, 2, 20)))
    assert (lost.name, lost.reason) == ("2", "zero padding")


def test_a_network_of_one_layer_has_its_name():
    (layer,) = audit(nn.Conv1d(1, 1, 3, padding=1), torch.rand(1, 1, 9))
    assert (layer.name, layer.reason) == ("Conv1d", "zero padding")


def test_the_network_is_left_as_it_was(x):
    network = _circular()
    network[3].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = x.clone()
    audit(network, x)
    assert [layer.training for layer in network] == [number != 3 for number in range(8)]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network)
    assert torch.equal(x, image)


def test_repeated_calls_are_told_apart():
    layers = audit(torchvision.models.resnet18(weights=None), torch.rand(1, 3, 64, 64))
    names = [layer.name for layer in layers]
    assert "layer1.0.relu" in names
    assert "layer1.0.relu#2" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "first", "reason"),
    [
        ("resnet18", "conv1", "stride 2, zero padding"),
        ("vgg11", "features.0", "zero padding"),
        ("mobilenet_v2", "features.0.0", "stride 2, zero padding"),
        ("densenet121", "features.conv0", "stride 2, zero padding"),
    ],
)
def test_torchvision_models(name, first, reason):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    layers = audit(model, torch.rand(1, 3, 64, 64))
    assert layers[0].name == first
    assert layers[0].reason == reason
    for layer in layers:
        if "ReLU" in layer.kind or "BatchNorm" in layer.kind:
            assert layer.own_error < 1e-4, layer.name


class _Two(nn.Module):
    def forward(self, x):
        return x, x


class _Wandering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.ReLU(), nn.Sigmoid()])

    def forward(self, x):
        return self.layers[int(x[0, 0, 0, 0] > 0)](x)


def test_rejections():
    with pytest.raises(TypeError, match="Expected 0 to return one tensor, but got tuple"):
        audit(nn.Sequential(_Two()), torch.rand(1, 1, 4, 4))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = 1
    with pytest.raises(RuntimeError, match="the same layers for a moved input, but got others"):
        audit(_Wandering(), x)


def test_the_table_and_the_picture_show_every_layer(x, tmp_path):
    layers = audit(_LeNet(), x)
    table = audit_table(layers)
    assert len(table.splitlines()) == 2 + len(layers)
    assert re.search(r"\| before fc1 \| function \| none \| [\d.]+ \|  \|  \| resizing, fl", table)
    path = draw_audit(tmp_path / "audit.png", layers, title="LeNet")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_needs_matplotlib(x, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'eqrestore-lightning\[recipes\]'"):
        draw_audit(tmp_path / "audit.png", audit(_LeNet(), x))
