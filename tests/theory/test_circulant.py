import itertools
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.theory import circulant_matrix, impulse_response

CASES = [  # spatial size, kernel size
    ((7,), (4,)),
    ((8,), (8,)),
    ((5, 6), (3, 6)),
    ((3, 4, 5), (3, 2, 5)),
]
F64 = torch.float64


@pytest.mark.parametrize(("size", "kernel"), CASES)
def test_the_matrix_convolves(size, kernel):
    weight, x = torch.randn(3, 2, *kernel, dtype=F64), torch.randn(2, *size, dtype=F64)
    before = weight.clone()
    matrix = circulant_matrix(weight, size)
    y = circular_conv(x.unsqueeze(0), weight, method="direct")
    assert_close((matrix @ x.flatten()).reshape(y[0].shape), y[0], rtol=0, atol=1e-12)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_the_matrix_keeps_the_dtype(dtype):
    matrix = circulant_matrix(torch.ones(1, 2, 3, dtype=dtype), (4,))
    assert matrix.dtype == dtype
    assert matrix.shape == (4, 8)


def test_the_matrix_has_the_right_gradient():
    weight = torch.randn(2, 1, 2, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: circulant_matrix(value, (3, 4)), (weight,))


def test_blocks_follow_the_definition():
    size, weight = (3, 4), torch.randn(1, 1, 3, 4)
    matrix = circulant_matrix(weight, size)
    places = list(itertools.product(*map(range, size)))
    first_column = {place: matrix[row, 0] for row, place in enumerate(places)}
    for (row, i), (column, j) in itertools.product(enumerate(places), repeat=2):
        difference = tuple((a - b) % n for a, b, n in zip(i, j, size, strict=True))
        assert matrix[row, column] == first_column[difference]


def test_matrices_that_do_not_fit_are_refused():
    message = "(out_channels, in_channels, *kernel_size) with 2 spatial axes, but got (1, 1, 3)."
    with pytest.raises(ValueError, match=re.escape(message)):
        circulant_matrix(torch.zeros(1, 1, 3), (3, 4))
    circulant_matrix(torch.zeros(1, 1, 3, 4), (3, 4))
    message = "to span at most the image, 3 pixels, but got 4."
    with pytest.raises(ValueError, match=re.escape(message)):
        circulant_matrix(torch.zeros(1, 1, 4, 4), (3, 4))


def _fft_filter(x):
    frequencies = torch.fft.fftfreq(x.shape[-1], dtype=x.dtype)
    return torch.fft.ifft(torch.fft.fft(x) * torch.exp(-8 * frequencies.square())).real


def _random_circulant(size):
    weight, bias = torch.randn(3, 2, *size, dtype=F64), torch.randn(3, dtype=F64)
    matrix = circulant_matrix(weight, size)

    def operator(x):
        y = (x.flatten(1) @ matrix.T).reshape(len(x), 3, *size)
        return y + bias.reshape(-1, *[1] * len(size))

    return operator


OPERATORS = {  # operator, shape
    "Conv1d": (nn.Conv1d(2, 3, 4, padding="same", padding_mode="circular", dtype=F64), (2, 9)),
    "Conv2d": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", dtype=F64), (2, 8, 9)),
    "Conv3d": (nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular", dtype=F64), (1, 3, 4, 5)),
    "FFT filter": (_fft_filter, (2, 7, 12)),
    "circulant, signal": (_random_circulant((7,)), (2, 7)),
    "circulant": (_random_circulant((5, 6)), (2, 5, 6)),
    "circulant, volume": (_random_circulant((2, 3, 4)), (2, 2, 3, 4)),
    "two layers": (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", dtype=F64),
            nn.Conv2d(4, 1, (5, 1), padding=(2, 0), padding_mode="circular", dtype=F64),
        ),
        (1, 6, 7),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
@torch.no_grad()
def test_filter_and_bias_are_recovered(name):
    operator, shape = OPERATORS[name]
    weight, bias = impulse_response(operator, shape)
    x = torch.randn(5, *shape, dtype=F64)
    again = circular_conv(x, weight, bias=bias, method="direct")
    assert_close(again, operator(x), rtol=0, atol=1e-12)


@torch.no_grad()
def test_taps_and_bias_are_those_of_the_layer():
    conv = OPERATORS["Conv2d"][0]
    weight, bias = impulse_response(conv, (2, 8, 9))
    assert_close(bias, conv.bias, rtol=0, atol=1e-12)
    matrix = circulant_matrix(weight, (8, 9))
    assert_close(matrix, circulant_matrix(conv.weight, (8, 9)), rtol=0, atol=1e-12)


def test_float32_operators_are_recovered_to_float32():
    conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    weight, bias = impulse_response(conv, (1, 6, 7), dtype=torch.float32)
    assert weight.dtype == bias.dtype == torch.float32
    assert_close(bias, conv.bias.detach())


class _Dense(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.linear = nn.Linear(72, 72, bias=bias, dtype=F64)

    def forward(self, x):
        return self.linear(x.flatten(2)).reshape(x.shape)


def _strided_and_enlarged(x):
    return x[:, :, ::2, ::3].repeat_interleave(2, 2).repeat_interleave(3, 3)


def _biased(x):
    return x + torch.arange(9, dtype=F64)


REASONS = {
    "strided": (nn.Conv2d(1, 1, 3, stride=2, padding=1, dtype=F64), "(8, 9), but got (4, 5): not "
                "equivariant, because of a stride, pooling or missing padding."),
    "pooled": (nn.MaxPool2d(2), "(8, 9), but got (4, 4): not equivariant, because of a stride"),
    "not padded": (nn.Conv2d(1, 1, 3, dtype=F64), "but got (6, 7): not equivariant"),
    "zero-padded": (nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=F64), "its weights depend on "
                    "position, as with zeros around the border, a stride, or a dense layer."),
    "biased by position": (_biased, "but got 0 to 8 in channel 0 for a blank image: not "
                           "equivariant, the bias depends on position."),
    "strided, enlarged again": (_strided_and_enlarged, "its weights depend on position"),
    "dense": (_Dense(bias=False), "its weights depend on position"),
    "dense and biased": (_Dense(bias=True), "the bias depends on position."),
    "flat": (nn.Flatten(), "but got (1, 72): not equivariant, as there is nothing to shift."),
    "ReLU": (nn.ReLU(), "Expected `operator` to be affine, but got A(1.75 x − 0.75 y) that"),
    "bent far out": (nn.Hardtanh(-50.0, 50.0), "Expected `operator` to be affine, but got"),
    "normalized": (nn.BatchNorm2d(1, dtype=F64), "Expected `operator` to be affine, but got"),
    "random": (nn.Dropout(), "but got two outputs for one image: it is random"),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_other_operators_are_refused_with_the_reason(name):
    operator, message = REASONS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        impulse_response(operator, (1, 8, 9))


def test_arguments_out_of_range_are_refused():
    with pytest.raises(TypeError, match=r"Expected `dtype` to be floating, but got torch\.int64\."):
        impulse_response(nn.Identity(), (1, 3), dtype=torch.int64)
    with pytest.raises(ValueError, match=re.escape("each at least 1, but got (3,).")):
        impulse_response(nn.Identity(), (3,))
    impulse_response(nn.Identity(), (1, 3))
