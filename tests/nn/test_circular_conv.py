import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift
from eqrestore_lightning.nn import CircularConv


@pytest.mark.parametrize("size", [(9,), (7, 8), (4, 5, 6)])
@pytest.mark.parametrize("separable", [False, True])
def test_layers_are_equivariant(size, separable):
    conv = CircularConv(len(size), 2, 3, 3, separable=separable)
    x = torch.rand(4, 2, *size)
    shift = random_shift(4, 9, num_spatial_dims=len(size))
    assert_close(conv(circular_shift(x, shift)), circular_shift(conv(x), shift))
    conv.method = "exact"
    assert torch.equal(conv(circular_shift(x, shift)), circular_shift(conv(x), shift))
    assert torch.equal(conv(x), conv.prepare(size, x.device, bits=None)(x))


def test_separable_filters_are_outer_products():
    conv = CircularConv(3, 2, 3, (2, 3, 4), separable=True)
    first, second, third = conv.factors()
    expected = torch.einsum("oca,ocb,ocd->ocabd", first, second, third)
    assert_close(conv.filters(), expected)
    assert sum(factor.numel() for factor in conv.factors()) == 2 * 3 * (2 + 3 + 4)


@pytest.mark.parametrize("separable", [False, True])
def test_weights_start_with_the_variance_of_torch(separable):
    conv = CircularConv(2, 16, 64, (5, 6), separable=separable)
    assert_close(conv.filters().var(), torch.tensor(1 / (3 * 16 * 30)), rtol=0.1, atol=0)
    reference = torch.nn.Conv2d(16, 64, (5, 6)).weight
    assert_close(conv.filters().var(), reference.var(), rtol=0.1, atol=0)


def test_gradients_reach_every_weight():
    conv = CircularConv(2, 1, 2, 3, separable=True)
    conv(torch.rand(3, 1, 8, 9)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in conv.parameters())


def test_repr_tells_the_arguments():
    text = repr(CircularConv(2, 1, 2, (3, 5), dilation=2, bias=False, separable=True))
    assert "1, 2, kernel_size=(3, 5), dilation=2, bias=False, separable=True" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "Expected `in_channels` to be at least 1, but got 0."),
        ({"out_channels": 0}, "Expected `out_channels` to be at least 1, but got 0."),
        ({"kernel_size": 0}, "Expected `kernel_size` to be at least 1, but got 0."),
        ({"kernel_size": (3,)}, "Expected `kernel_size` to be one number or 2, but got (3,)."),
        ({"dilation": 0}, "Expected `dilation` to be at least 1, but got 0."),
    ],
)
def test_rejections(options, message):
    arguments = {"in_channels": 1, "out_channels": 1, "kernel_size": 3}
    CircularConv(2, **arguments)
    with pytest.raises(ValueError, match=re.escape(message)):
        CircularConv(2, **{**arguments, **options})


@pytest.mark.parametrize("number", [0, 4])
def test_rejects_no_axes_and_four(number):
    message = f"Expected `num_spatial_dims` to be from 1 to 3, but got {number}."
    with pytest.raises(ValueError, match=re.escape(message)):
        CircularConv(number, 1, 1, 3)


def test_rejects_another_number_of_axes():
    with pytest.raises(ValueError, match=re.escape("with 2 spatial axes, but got (1, 1, 9).")):
        CircularConv(2, 1, 1, 3)(torch.rand(1, 1, 9))
