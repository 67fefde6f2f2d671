"""Circular convolution whose sums are those of integers, and so the same in every order."""

import math
from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.functional._conv_ways import (
    LOCAL_TAPS,
    TORCH_CONV,
    Spectra,
    pointwise_conv,
    wrap,
)
from eqrestore_lightning.functional._traced import is_traced

_LARGEST_SUM = 2**24  # up to which float32 holds every integer
_HAS_ONE_DNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class ExactFilters:
    """Filters of the method `"exact"` of `circular_conv`, rounded and transformed once."""

    def __init__(
        self, weight: Tensor, spatial: Sequence[int], dilation: int, bits: int | None = None
    ) -> None:
        most = exact_bits((1, weight.shape[1], *spatial), weight.shape)
        if bits is not None and not 1 <= bits <= most:
            raise ValueError(
                f"Expected `bits` to be from 1 to {most}, as many as can be added exactly for "
                f"{weight.shape[1]} channels of {tuple(spatial)} pixels and filters of "
                f"{tuple(weight.shape[2:])} taps, but got {bits}."
            )
        self.bits, self.most_bits, self.dilation = bits, most, dilation
        integers, unit = self._to_integers(weight if bits is None else weight.float())
        in_float32 = _sums_fit(integers, most if bits is None else bits)
        self.integers = integers.to(torch.float32 if in_float32 else torch.float64)
        self.unit = unit.reshape(1, -1, *[1] * len(spatial))
        taps = math.prod(weight.shape[2:])
        direct = taps == 1 or (in_float32 and taps <= LOCAL_TAPS)
        self.spectra = None if direct else Spectra(self.integers.double(), spatial, dilation)

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve images, in float32 or float64; NaN for samples that are not finite."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if x.shape[0] == 0:
            return x.new_zeros(0, len(self.integers), *x.shape[2:], dtype=dtype)
        integers, unit = self._to_integers(x.to(dtype))
        if self.spectra is None:
            wrapped = wrap(integers.to(self.integers), self.integers.shape[2:], self.dilation)
            with torch.autocast(x.device.type, enabled=False):
                y = convolve_integers(wrapped, self.integers, dilation=self.dilation)
        else:
            y = self.spectra(integers.double()).round_().add_(0.0)  # no -0.0
        return y.to(unit.dtype).mul_(unit * self.unit).to(dtype)

    def _to_integers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return integers up to `2^bits`, and the unit in which they give each `x[i]`."""
        x = x.detach()
        if self.bits is None:  # a power of two: integers of so many bits stay as they are
            x = x.double()
            unit = binary_unit(x, self.most_bits)
            return (x * unit.reciprocal()).round_(), unit
        levels = 2**self.bits  # all of them are used, as there are few
        unit = _largest(x).clamp(min=torch.finfo(x.dtype).tiny * levels) / levels
        return (x / unit).round_(), unit


def convolve_integers(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1
) -> Tensor:
    """Convolve integers without padding, by sums of their products in any order.

    Where the magnitudes of all products and of the bias add up to at most 2^24, sums are exact in
    float32, for every algorithm, thread count and device, also where operands are first rounded to
    bfloat16 or TF32, if these hold them. Nothing is checked. A graph that was traced on a CPU with
    oneDNN holds torch's convolution, and is exact where oneDNN runs it.
    """
    taps = weight.shape[2:]
    one_dnn = _HAS_ONE_DNN and torch.backends.mkldnn.enabled  # torch asks it for direct sums
    if math.prod(taps) > 1 and x.is_cpu and (one_dnn or torch.onnx.is_in_onnx_export()):
        return TORCH_CONV[x.ndim](x, weight, bias, dilation=dilation)
    # ONNX files are small so, and onnxruntime adds plain sums on a CPU.
    # Other libraries (NNPACK, cuDNN) may choose spectra or Winograd's algorithm, whose
    # intermediate results are no integers; matrix products are plain sums.
    size = [length - dilation * (tap - 1) for length, tap in zip(x.shape[2:], taps, strict=True)]

    def part(tap: tuple[int, ...], matrix: Tensor) -> Tensor:
        starts = [dilation * start for start in tap]
        window: list[Any] = [
            slice(start, start + length) for start, length in zip(starts, size, strict=True)
        ]
        return pointwise_conv(x[:, :, *window], matrix)

    y = reduce(torch.add, map(part, product(*map(range, taps)), weight.flatten(2).unbind(2)))
    return y if bias is None else y + bias.reshape(-1, *[1] * len(size))


def _largest(x: Tensor) -> Tensor:
    """Return the largest magnitude in each entry of the first axis, `(batch, 1, …)`."""
    flat = x.flatten(1)
    return torch.maximum(flat.amax(1), -flat.amin(1)).reshape(-1, *[1] * (x.ndim - 1))


def _sums_fit(weight: Tensor, bits: int) -> bool:
    """Check whether float32 holds all sums of products of such integers with those of `weight`."""
    if math.prod(weight.shape[1:]) * 2 ** (2 * bits) <= _LARGEST_SUM:
        return True
    if 2 ** (2 * bits) > _LARGEST_SUM or is_traced(weight):  # graphs depend on no values
        return False
    return bool(weight.abs().flatten(1).sum(1).max() * 2**bits <= _LARGEST_SUM)


def exact_bits(x_shape: Sequence[int], weight_shape: Sequence[int]) -> int:
    """Return how many bits of `x` and `weight` the method `"exact"` of `circular_conv` can keep.

    Transforms over N places and a sum over C channels, of operands below 2^bits, err by less than
    2^-53 · (12 log2(2 N) + 2 C) · |x| |w|, in Euclidean norms |x| |w| ≤ 2^(2 bits) √(terms C N)
    (Percival, "Rapid multiplication modulo the sum and difference of highly composite numbers",
    2003). `bits` keeps that below 1/4, so that rounding finds the one true integer. The bound
    holds for lengths that are powers of two; for others the remaining factor of 2 is headroom, and
    tests measure the error.
    """
    channels, places = x_shape[1], math.prod(x_shape[2:])
    growth = math.log2(12 * math.log2(2 * places) + 2 * channels)
    growth += math.log2(math.prod(weight_shape[1:]) * channels * places) / 2
    return int((51 - growth) // 2)


def leading_bits(x: Tensor, bits: int) -> Tensor:
    """Round each float64 sample to `bits` binary places below its largest magnitude."""
    unit = binary_unit(x, bits)
    return torch.round(x / unit) * unit


def binary_unit(x: Tensor, bits: int) -> Tensor:
    """Return a power of two for each float64 sample, with `|x / unit| <= 2^bits`."""
    largest = _largest(x.detach())
    exponent = ((largest.view(torch.int64) >> 52) - 1022).clamp(min=-900)  # as `frexp` has it
    exponent = exponent - bits
    return ((exponent + 1023) << 52).view(torch.float64)  # a power of two, made of its bits
