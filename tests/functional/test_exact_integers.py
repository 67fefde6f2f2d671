"""Exact convolutions against integers added one by one by NumPy: another arithmetic."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.functional._exact_conv import ExactFilters


def _summed(x, weight):
    """The definition, in int64: output[i] is the sum of weight[t] x[i + t − (taps − 1) // 2]."""
    taps = weight.shape[2:]
    axes = tuple(range(1, x.ndim - 1))
    total = np.zeros((x.shape[0], weight.shape[0], *x.shape[2:]), dtype=np.int64)
    for place in itertools.product(*map(range, taps)):
        offset = tuple((count - 1) // 2 - t for count, t in zip(taps, place, strict=True))
        for channel in range(x.shape[1]):
            moved = np.roll(x[:, channel], offset, axes)[:, None]
            total += weight[(slice(None), channel, *place)].reshape(1, -1, *[1] * len(taps)) * moved
    return total


@st.composite
def _cases(draw):
    dims = draw(st.integers(1, 3))
    largest = {1: 64, 2: 17, 3: 7}[dims]
    size = tuple(draw(st.integers(1, largest)) for _ in range(dims))
    taps = tuple(draw(st.integers(1, side)) for side in size)
    channels = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    seed = draw(st.integers(0, 2**31))
    return size, taps, channels, seed, draw(st.sampled_from([1, 8, 16]))


def _check(case):
    size, taps, (inputs, outputs), seed, bits = case
    random = np.random.default_rng(seed)
    x = random.integers(0, 2**bits, (2, inputs, *size))
    weight = random.integers(-2047, 2048, (outputs, inputs, *taps))
    expected = _summed(x, weight)
    found = circular_conv(
        torch.from_numpy(x).double(), torch.from_numpy(weight).double(), method="exact"
    )
    assert np.array_equal(found.numpy().astype(np.int64), expected)
    assert np.array_equal(found.numpy(), expected.astype(np.float64))


def _check_levels(case):
    """Eight bits, 256 levels of either sign, are added as integers, without error."""
    size, taps, (inputs, outputs), seed, bits = case
    random = np.random.default_rng(seed)
    x = random.integers(0 if bits == 1 else -256, 257, (2, inputs, *size))
    weight = random.integers(0 if bits == 1 else -256, 257, (outputs, inputs, *taps))
    x[:, 0].reshape(2, -1)[:, 0] = 256  # so that nothing is rounded
    weight[:, 0].reshape(outputs, -1)[:, 0] = 256
    found = circular_conv(
        torch.from_numpy(x).double(), torch.from_numpy(weight).double(), method="exact", bits=8
    )
    assert np.array_equal(found.numpy(), _summed(x, weight).astype(np.float64))


@settings(deadline=None, max_examples=150, derandomize=True)
@given(_cases())
def test_sums_of_integers_are_exact(case):
    _check(case)
    _check_levels(case)


@pytest.mark.slow
@settings(deadline=None, max_examples=5_000)
@given(_cases())
def test_sums_of_many_integers_are_exact(case):
    _check(case)
    _check_levels(case)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize(
    ("size", "taps", "channels"),
    [((13,), (9,), 28), ((13,), (9,), 32), ((9, 8), (3, 3), 28), ((9, 8), (5, 5), 40)],
)
def test_levels_of_many_channels_with_and_without_one_dnn(size, taps, channels, one_dnn):
    """Up to 256 terms float32 holds every sum, beyond only if the filters are not too large."""
    with torch.backends.mkldnn.flags(enabled=one_dnn):
        for seed, bits in ((0, 1), (1, 8)):
            _check_levels((size, taps, (channels, 2), seed, bits))


def test_levels_do_not_depend_on_threads_precision_or_autocast():
    x, weight = torch.randn(17, 32, 72), torch.randn(32, 32, 9)
    expected = circular_conv(x, weight, method="exact", bits=8)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(3 - min(2, threads))
        torch.set_float32_matmul_precision("medium")  # operands may be rounded to bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            found = circular_conv(x, weight, method="exact", bits=8)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    assert torch.equal(found, expected)
    assert torch.equal(circular_conv(x[3:4], weight, method="exact", bits=8), expected[3:4])


@pytest.mark.parametrize("size", [(97,), (101, 53), (224, 224)])
def test_prime_and_large_sizes(size):
    taps = tuple(min(side, 31) for side in size)
    _check((size, taps, (1, 1), 5, 8))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_levels_in_batches_for_which_other_libraries_leave_plain_sums(one_dnn, compiled):
    """NNPACK takes 3 × 3 filters from 16 images on, and multiplies spectra."""
    x, weight = torch.randn(32, 16, 32, 32), torch.randn(16, 16, 3, 3)

    def convolve(x):
        return circular_conv(x, weight, method="exact", bits=8)

    expected = torch.cat([convolve(image) for image in x.split(1)])
    with torch.backends.mkldnn.flags(enabled=one_dnn):
        found = torch.compile(convolve, backend="eager")(x) if compiled else convolve(x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_levels_beyond_what_float32_holds_are_added_in_float64(compiled):
    random = np.random.default_rng(0)
    x = random.integers(250, 257, (2, 40, 11, 9))
    weight = random.integers(250, 257, (3, 40, 5, 5))
    x[:, 0, 0, 0], weight[:, 0, 0, 0] = 256, 256

    def convolve(x):
        return circular_conv(x, torch.from_numpy(weight).double(), method="exact", bits=8)

    convolve = torch.compile(convolve, backend="eager", fullgraph=True) if compiled else convolve
    found = convolve(torch.from_numpy(x).double())
    assert np.array_equal(found.numpy(), _summed(x, weight).astype(np.float64))


@pytest.mark.parametrize("exponent", [-110, 0, 110])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("taps", [3, 7])
def test_levels_do_not_depend_on_a_power_of_two(exponent, dtype, taps):
    x, weight = torch.randn(3, 2, 9, 8).to(dtype), torch.randn(4, 2, taps, taps).to(dtype)
    scale = 2.0**exponent
    found = circular_conv(x * scale, weight, method="exact", bits=8)
    assert found.dtype == dtype
    assert torch.equal(found, circular_conv(x, weight, method="exact", bits=8) * scale)


@pytest.mark.parametrize("bits", [None, 8])
def test_no_gradients_and_no_negative_zeros(bits):
    x = torch.zeros(2, 1, 16, 16)
    x[:, :, 3, 5] = 1.0
    weight = torch.randn(2, 1, 7, 7, requires_grad=True)
    y = circular_conv(x.requires_grad_(), weight, method="exact", bits=bits)
    assert not y.requires_grad
    assert not (y.signbit() & (y == 0)).any()


def test_sums_that_cannot_be_exact_are_refused():
    weight = torch.zeros(1, 16, 1, 1, 1).expand(1, 16, 256, 256, 256)
    with pytest.raises(ValueError, match=r"Expected `bits` to be from 1 to 7, as many"):
        ExactFilters(weight, (256, 256, 256), 1, bits=8)
