"""Exact convolutions against integers added one by one by NumPy: another arithmetic."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from eqrestore_lightning.functional import circular_conv


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


@settings(deadline=None, max_examples=150, derandomize=True)
@given(_cases())
def test_sums_of_integers_are_exact(case):
    _check(case)


@pytest.mark.slow
@settings(deadline=None, max_examples=5_000)
@given(_cases())
def test_sums_of_many_integers_are_exact(case):
    _check(case)


@pytest.mark.parametrize("size", [(97,), (101, 53), (224, 224)])
def test_prime_and_large_sizes(size):
    taps = tuple(min(side, 31) for side in size)
    _check((size, taps, (1, 1), 5, 8))
