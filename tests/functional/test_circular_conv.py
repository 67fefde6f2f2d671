import itertools
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_conv, circular_shift
from eqrestore_lightning.functional._shift import random_shift

CASES = [  # spatial size, kernel size, dilation
    ((11,), (4,), 1),
    ((11,), (11,), 1),
    ((8, 13), (3, 6), 1),
    ((9, 8), (3, 2), 3),
    ((6, 7), (6, 7), 1),
    ((4, 5, 6), (3, 2, 5), 1),
    ((5, 5, 7), (2, 3, 3), 2),
    ((7, 6), (1, 1), 1),
]
CHANNELS = [(1, 1), (1, 3), (3, 1), (2, 3)]
METHODS = ["auto", "direct", "fft", "exact"]
WAYS = [(*channels, method) for channels in CHANNELS for method in METHODS]
WAYS.append((1, 1, "depthwise"))  # takes one channel in and one out
BITS = [None, 4, 8, 13]


def _dense_reference(x, weight, dilation):
    """Multiply by the block-circulant matrix, built entry by entry from the definition."""
    size, kernel = x.shape[2:], weight.shape[2:]
    places = list(itertools.product(*map(range, size)))
    number = {place: index for index, place in enumerate(places)}
    matrix = torch.zeros(*weight.shape[:2], len(places), len(places), dtype=torch.float64)
    for row, place in enumerate(places):
        for tap in itertools.product(*map(range, kernel)):
            read = tuple(
                (i + dilation * k - dilation * (length - 1) // 2) % n
                for i, k, length, n in zip(place, tap, kernel, size, strict=True)
            )
            matrix[:, :, row, number[read]] += weight[(slice(None), slice(None), *tap)]
    y = torch.einsum("ocij,bcj->boi", matrix, x.flatten(2))
    return y.reshape(len(x), len(weight), *size)


@pytest.mark.parametrize(("size", "kernel", "dilation"), CASES)
@pytest.mark.parametrize(("in_channels", "out_channels", "method"), WAYS)
def test_every_method_equals_the_circulant_matrix(
    size, kernel, dilation, in_channels, out_channels, method
):
    x = torch.randn(2, in_channels, *size, dtype=torch.float64)
    weight = torch.randn(out_channels, in_channels, *kernel, dtype=torch.float64)
    bias = torch.randn(out_channels, dtype=torch.float64)
    before = x.clone(), weight.clone()
    y = circular_conv(x, weight, bias=bias, dilation=dilation, method=method)
    expected = _dense_reference(x, weight, dilation) + bias.reshape(-1, *[1] * len(size))
    tolerance = 2e-3 if method == "exact" else 1e-12  # operands have 14 to 21 bits
    assert_close(y.double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])


@pytest.mark.parametrize("kernel_size", [3, 4, 9, 12])
@pytest.mark.parametrize("dilation", [1, 2])
def test_direct_equals_torch_with_circular_padding_bitwise(kernel_size, dilation):
    conv = nn.Conv2d(2, 3, kernel_size, dilation=dilation, padding="same", padding_mode="circular")
    x = torch.randn(4, 2, 24, 25)
    y = circular_conv(x, conv.weight, bias=conv.bias, dilation=dilation, method="direct")
    assert torch.equal(y, conv(x))


def test_depthwise_equals_direct_bitwise():
    x, weight = torch.rand(32, 1, 32, 32), torch.randn(1, 1, 9, 9)
    direct = circular_conv(x, weight, method="direct")
    assert torch.equal(circular_conv(x, weight, method="depthwise"), direct)
    assert torch.equal(circular_conv(x, weight), direct)


@pytest.mark.parametrize(("size", "kernel", "dilation"), CASES)
@pytest.mark.parametrize(("in_channels", "out_channels"), CHANNELS)
@pytest.mark.parametrize("bits", BITS)
def test_exact_is_bitwise_equivariant(size, kernel, dilation, in_channels, out_channels, bits):
    x = torch.randn(1, in_channels, *size).expand(64, -1, *[-1] * len(size))
    weight = torch.randn(out_channels, in_channels, *kernel)
    shift = random_shift(64, max(size), num_spatial_dims=len(size))
    options = {"dilation": dilation, "method": "exact", "bits": bits}
    y = circular_conv(x, weight, **options)
    shifted = circular_conv(circular_shift(x, shift), weight, **options)
    assert torch.equal(shifted, circular_shift(y, shift))


def test_fft_in_float32_is_not_bitwise_equivariant():
    x, weight = torch.randn(64, 1, 32, 32), torch.randn(1, 1, 32, 32)
    shift = random_shift(64, 16)
    y = circular_conv(x, weight, method="fft")
    shifted = circular_conv(circular_shift(x, shift), weight, method="fft")
    assert not torch.equal(shifted, circular_shift(y, shift))
    assert_close(shifted, circular_shift(y, shift), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(40, 40), (1021,), (37, 41), (128, 128), (13, 17, 19)])
@pytest.mark.parametrize("channels", [1, 16])
def test_spectra_err_far_less_than_rounding_forgives(size, channels, monkeypatch):
    from eqrestore_lightning.functional._conv_ways import Spectra

    distances = []

    def _watched(self, x, evaluate=Spectra.__call__):
        y = evaluate(self, x)
        distances.append((y - y.round()).abs().max().item())
        return y

    monkeypatch.setattr(Spectra, "__call__", _watched)
    x, weight = torch.rand(1, channels, *size), torch.rand(2, channels, *size)  # no sign: worst
    circular_conv(x, weight, method="exact")
    assert len(distances) == 1
    assert distances[0] < 0.05  # 0.5 would be too much


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_exact_takes_operands_of_any_magnitude(scale):
    x, weight = torch.randn(2, 1, 9, dtype=torch.float64), torch.randn(1, 1, 5, dtype=torch.float64)
    y = circular_conv(x * scale, weight, method="exact")
    assert_close(y / scale, circular_conv(x, weight, method="direct"), rtol=0, atol=1e-4)
    assert circular_conv(x * 0, weight, method="exact").count_nonzero() == 0


def test_zero_padding_and_stride_break_equivariance():
    x, weight = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 3, 3)
    zero_padded = torch.nn.functional.conv2d(x, weight, padding=1)
    rolled = torch.nn.functional.conv2d(x.roll(3, 2), weight, padding=1)
    assert not torch.allclose(rolled, zero_padded.roll(3, 2))
    strided = circular_conv(x, weight)[..., ::2, ::2]
    assert not torch.allclose(circular_conv(x.roll(1, 2), weight)[..., ::2, ::2], strided)
    assert_close(circular_conv(x.roll(3, 2), weight), circular_conv(x, weight).roll(3, 2))


@pytest.mark.parametrize("method", ["direct", "fft", "depthwise"])
def test_gradients(method):
    x = torch.randn(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: circular_conv(x, weight, method=method), (x, weight)
    )


@pytest.mark.parametrize("method", ["direct", "fft", "depthwise", "exact", "auto"])
def test_empty_batch(method):
    y = circular_conv(torch.rand(0, 1, 6, 7), torch.rand(1, 1, 3, 3), method=method)
    assert y.shape == (0, 1, 6, 7)


@pytest.mark.parametrize("kernel", [(3, 4), (1, 1)])
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "method"),
    [way for way in WAYS if way[2] in ("auto", "direct", "fft", "depthwise")],
)
def test_loss_of_empty_batch_goes_backward(in_channels, out_channels, method, kernel):
    x = torch.rand(0, in_channels, 6, 7, requires_grad=True)
    weight = torch.rand(out_channels, in_channels, *kernel, requires_grad=True)
    bias = torch.rand(out_channels, requires_grad=True)
    y = circular_conv(x, weight, bias=bias, method=method)
    assert y.shape == (0, out_channels, 6, 7)
    y.sum().backward()
    for tensor in (x, weight, bias):
        assert_close(tensor.grad, torch.zeros_like(tensor), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept_by_exact_convolutions_if_not_below_float32(dtype):
    x, weight = torch.rand(2, 1, 6, 7).to(dtype), torch.rand(1, 1, 6, 7).to(dtype)
    assert circular_conv(x, weight, method="fft").dtype == dtype
    for bits in BITS:
        for batch in (x, x[:0]):
            y = circular_conv(batch, weight, method="exact", bits=bits)
            assert y.dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (6, 7)])
def test_more_bits_are_nearer(taps):
    x, weight = torch.rand(4, 3, 6, 7), torch.randn(5, 3, *taps)
    expected = circular_conv(x.double(), weight.double())
    errors = [
        (circular_conv(x.double(), weight, method="exact", bits=bits) - expected).abs().max()
        for bits in (4, 8, 12, None)
    ]
    assert all(coarse > 4 * fine for coarse, fine in itertools.pairwise(errors))


def test_auto_takes_the_method_of_the_stated_rule(monkeypatch):
    import eqrestore_lightning.functional._circular_conv as module

    def chosen(in_channels, out_channels, size, grad):
        x = torch.rand(1, in_channels, 32, 32)
        weight = torch.rand(out_channels, in_channels, size, size, requires_grad=grad)
        return module._choose(x, weight, None)

    assert chosen(1, 1, 9, grad=False) == "depthwise"
    assert chosen(1, 1, 9, grad=True) == "fft"
    assert chosen(1, 1, 16, grad=False) == "fft"
    assert chosen(1, 16, 3, grad=True) == "fft"
    assert chosen(16, 16, 5, grad=True) == "direct"
    assert chosen(16, 16, 6, grad=False) == "fft"
    with torch.no_grad():
        assert chosen(1, 1, 9, grad=True) == "depthwise"
    meta = torch.rand(1, 1, 32, 32, device="meta")
    assert module._choose(meta, torch.rand(1, 1, 15, 15), None) == "direct"
    assert module._choose(meta, torch.rand(1, 1, 16, 16), None) == "fft"


@pytest.mark.parametrize(
    ("x", "weight", "options", "message"),
    [
        ((1, 1, 8), (1, 1, 9), {}, "Expected the kernel to span at most the image, 8 pixels, but "
         "got 9 taps at dilation 1."),
        ((1, 1, 8), (1, 1, 3), {"dilation": 4}, "Expected the kernel to span at most the image, 8 "
         "pixels, but got 3 taps at dilation 4."),
        ((1, 1, 8), (1, 1, 3), {"dilation": 0}, "Expected `dilation` to be at least 1, but got 0."),
        ((1, 2, 8), (1, 1, 3), {}, "Expected `weight` to have shape (out_channels, 2, "
         "*kernel_size) with 1 spatial axes, but got (1, 1, 3)."),
        ((1, 1, 8), (1, 1, 3, 3), {}, "Expected `weight` to have shape (out_channels, 1, "
         "*kernel_size) with 1 spatial axes, but got (1, 1, 3, 3)."),
        ((8, 8), (8, 8), {}, "Expected `x` to have shape (batch, channels, *spatial) with 1 to 3 "
         "spatial axes, but got (8, 8)."),
        ((1, 1, 8), (2, 1, 3), {"bias": torch.zeros(3)}, "Expected `bias` to have shape (2,), but "
         "got (3,)."),
        ((1, 2, 8), (1, 2, 3), {"method": "depthwise"}, "Expected one channel in and one out for "
         "method 'depthwise', but got 2 in and 1 out."),
        ((1, 1, 8), (1, 1, 3), {"method": "slow"}, "Expected `method` to be one of ('auto', "
         "'direct', 'fft', 'depthwise', 'exact'), but got 'slow'."),
        ((1, 1, 8), (1, 1, 3), {"bits": 8}, "Expected `bits` for method 'exact' only, but got "
         "method 'auto'."),
        ((1, 1, 8), (1, 1, 3), {"method": "exact", "bits": 0}, "Expected `bits` to be from 1 to "
         "21, as many as can be added exactly for 1 channels of (8,) pixels and filters of (3,) "
         "taps, but got 0."),
        ((1, 1, 8), (1, 1, 3), {"method": "exact", "bits": 22}, "but got 22."),
    ],
)  # fmt: skip
def test_rejections(x, weight, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        circular_conv(torch.rand(x), torch.rand(weight), **options)


def test_rejects_dtypes():
    with pytest.raises(TypeError, match="Expected `x` and `weight` to be floating, but got"):
        circular_conv(torch.ones(1, 1, 8, dtype=torch.int64), torch.rand(1, 1, 3))
    with pytest.raises(TypeError, match="`weight` to have the same dtype, but got torch"):
        circular_conv(torch.rand(1, 1, 8), torch.rand(1, 1, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_channels_by_fft_have_the_gradients_of_the_direct_way(dtype):
    x = torch.rand(2, 3, 6, 5, dtype=dtype, requires_grad=True)
    weight = torch.rand(4, 3, 3, 5, dtype=dtype, requires_grad=True)
    upstream = torch.rand(2, 4, 6, 5, dtype=dtype)
    gradients = [
        torch.autograd.grad(circular_conv(x, weight, method=method), (x, weight), upstream)
        for method in ("fft", "direct")
    ]
    for by_fft, directly in zip(*gradients, strict=True):
        torch.testing.assert_close(by_fft, directly)


def test_layers_follow_each_other_under_autocast():
    x = torch.rand(2, 3, 8, 8)
    weight = torch.rand(4, 3, 3, 3), torch.rand(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = circular_conv(x, weight[0], method="direct")
        assert hidden.dtype == torch.bfloat16
        scores = circular_conv(hidden, weight[1], method="fft")
    expected = circular_conv(circular_conv(x, weight[0]), weight[1])
    torch.testing.assert_close(scores.float(), expected, rtol=0.05, atol=0.5)
