"""Circular convolution: one definition, several ways to evaluate it."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

ConvMethod: TypeAlias = Literal["auto", "direct", "fft", "depthwise", "exact"]
CONV_METHODS: tuple[ConvMethod, ...] = ("auto", "direct", "fft", "depthwise", "exact")

# Chosen from the output of `python recipes/speed.py --only '["crossover"]'` on two CPU cores; not
# measured elsewhere.
_DEPTHWISE_MAX_TAPS = 15 * 15
_DIRECT_MAX_TAPS_CPU = 5 * 5
_DIRECT_MAX_TAPS_ELSEWHERE = 15 * 15

_TORCH_CONV: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def circular_conv(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    dilation: int = 1,
    method: ConvMethod = "auto",
) -> Tensor:
    r"""Convolve over axes that wrap around: a block matrix of circular filters, plus a constant.

    `y[b, o, i] = bias[o] + Σ_c Σ_k weight[o, c, k] · x[b, c, (i + dilation · k − left) mod n]` with
    `left = dilation · (kernel_size − 1) // 2` on each axis. A kernel as large as the image is the
    general circulant matrix.

    Convention:
        Cross-correlation, as in `torch.nn.functional.conv2d`. Equal to
        `Conv2d(padding="same", padding_mode="circular")`, even kernels included.

    Ways to evaluate:
        - `"direct"`: pad by wrapping, then torch's convolution.
        - `"fft"`: multiply spectra. Its cost does not grow with the kernel; float32 rounding
          (about 1e-6 relative) differs between shifts of an image.
        - `"depthwise"`: the batch as channels of one depthwise convolution. One channel in and one
          out; on a CPU several times faster than `"direct"`, and bitwise equal to it there.
        - `"exact"`: spectra in float64 with `x` and `weight` rounded to 14 to 21 bits (relative to
          the largest magnitude in a sample and in an output filter; fewer for larger sums). Every
          sum is then a multiple of a known unit, to which the result is rounded. The result does
          not depend on the order of summation and is therefore **bitwise equivariant** on any
          device with float64.
        - `"auto"`: a matrix product over channels for a single tap. On a CPU `"depthwise"` for one
          channel in and out without gradients up to 15 × 15 taps, else `"fft"` for one channel in
          or out or more than 5 × 5 taps, else `"direct"`. On other devices `"fft"` above 15 × 15
          taps, else `"direct"`.

    Args:
        x: Samples of shape `(batch, in_channels, *spatial)` with 1 to 3 spatial axes, floating.
        weight: Filters of shape `(out_channels, in_channels, *kernel_size)`, dtype of `x` (for
            `"exact"` any floating dtype). On each axis `dilation · (kernel_size − 1) + 1` is at
            most the size of `x`.
        bias: Constants of shape `(out_channels,)`, dtype of `weight`.
        dilation: Distance between taps, pixels.
        method: How to evaluate it.

    Returns:
        Shape `(batch, out_channels, *spatial)`; dtype of `x`, float64 for `"exact"`. Differentiable
        unless `"exact"`.

    Raises:
        TypeError: If a dtype is not floating or the dtypes differ.
        ValueError: If the shapes do not match, the kernel does not fit into the image, `dilation`
            is below 1, or `method` is unknown or does not apply.

    Source: Definition 3.5 and Equation (3).

    >>> x = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    >>> circular_conv(x, torch.tensor([[[1.0, 2.0, 3.0]]]), method="direct")
    tensor([[[3., 2., 1., 0.]]])
    """
    _check(x, weight, bias, dilation, method)
    pointwise = math.prod(weight.shape[2:]) == 1
    if method == "auto" and not pointwise:
        method = _choose(x, weight, bias)
    if method == "direct":
        return _direct(x, weight, bias, dilation)
    if method == "auto":
        y = _pointwise(x, weight)
    elif method == "depthwise":
        y = _depthwise(x, weight, dilation)
    elif method == "fft":
        y = _fft(x, weight, dilation)
    else:
        y = _exact(x, weight, dilation)
    return y if bias is None else y + bias.to(y).reshape(-1, *[1] * (x.ndim - 2))


def _choose(x: Tensor, weight: Tensor, bias: Tensor | None) -> ConvMethod:
    taps = math.prod(weight.shape[2:])
    if x.device.type != "cpu":
        return "fft" if taps > _DIRECT_MAX_TAPS_ELSEWHERE else "direct"
    needs_grad = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)
    )
    channels = weight.shape[:2]
    if tuple(channels) == (1, 1) and taps <= _DEPTHWISE_MAX_TAPS and not needs_grad:
        return "depthwise"
    return "fft" if min(channels) == 1 or taps > _DIRECT_MAX_TAPS_CPU else "direct"


def _direct(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    wrapped = _wrap(x, weight.shape[2:], dilation)
    return _TORCH_CONV[x.ndim](wrapped, weight, bias, dilation=dilation)


def _pointwise(x: Tensor, weight: Tensor) -> Tensor:
    y = torch.matmul(weight.flatten(1), x.flatten(2))
    return y.reshape(x.shape[0], weight.shape[0], *x.shape[2:])


def _depthwise(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    batch = x.shape[0]
    if batch == 0:
        return _pointwise(x, weight.flatten(2).sum(2))
    channels = 32 if batch % 32 == 0 else batch  # 32 at a time suit the vector units best
    wrapped = _wrap(x, weight.shape[2:], dilation)
    wrapped = wrapped.reshape(batch // channels, channels, *wrapped.shape[2:])
    filters = weight.expand(channels, *weight.shape[1:])
    y = _TORCH_CONV[x.ndim](wrapped, filters, groups=channels, dilation=dilation)
    return y.reshape(x.shape)


def _fft(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    dtype = x.dtype
    if x.shape[0] == 0:  # torch 2.14 raises on an empty transform; a product keeps gradients
        return _pointwise(x, weight.flatten(2).sum(2)).to(dtype)
    if dtype in (torch.float16, torch.bfloat16):  # no spectra in half precision on a CPU
        x, weight = x.float(), weight.float()
    spatial = x.shape[2:]
    axes = tuple(range(2, x.ndim))
    spectrum = torch.fft.rfftn(x, dim=axes)
    filters = torch.fft.rfftn(full_size_filters(weight, spatial, dilation), dim=axes).conj()
    if weight.shape[1] == 1:
        product = spectrum * filters.squeeze(1)
    else:  # frequencies first and conjugates written out: twice as fast as `einsum`
        columns = filters.resolve_conj().flatten(2).permute(2, 1, 0).contiguous()
        rows = spectrum.flatten(2).permute(2, 0, 1).contiguous()
        product = (rows @ columns).permute(1, 2, 0).contiguous().unflatten(2, spectrum.shape[2:])
    y: Tensor = torch.fft.irfftn(product, s=spatial, dim=axes)
    return y.to(dtype)


def _exact(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Compute sums of integers in float64, which neither order nor spectra can change."""
    bits = exact_bits(x.shape, weight.shape)
    x_unit = binary_unit(x.double(), bits)
    weight = weight.to(x.device, torch.float64)
    weight_unit = binary_unit(weight, bits)
    x_integers = (x.double() * x_unit.reciprocal()).round_()  # exact: units are powers of two
    weight_integers = (weight * weight_unit.reciprocal()).round_()
    if math.prod(weight.shape[2:]) == 1:
        integers = _pointwise(x_integers, weight_integers)
    else:
        integers = _fft(x_integers, weight_integers, dilation).round_()
    return integers.mul_(x_unit * weight_unit.reshape(1, -1, *[1] * (x.ndim - 2)))


def exact_bits(x_shape: Sequence[int], weight_shape: Sequence[int]) -> int:
    """Return how many bits of `x` and `weight` the method `"exact"` of `circular_conv` keeps.

    Transforms over N places and a sum over C channels, of operands below 2^bits, err by less than
    2^-53 · (12 log2(2 N) + 2 C) · |x| |w|, in Euclidean norms |x| |w| ≤ 2^(2 bits) √(terms C N)
    (Percival, "Rapid multiplication modulo the sum and difference of highly composite numbers",
    2003). `bits` keeps that below 1/4, so that rounding finds the one true integer. The bound
    holds for lengths that are powers of two; for others the remaining factor of 2 is headroom, and
    tests measure the error.

    Args:
        x_shape: `(batch, in_channels, *spatial)`.
        weight_shape: `(out_channels, in_channels, *kernel_size)`.

    Returns:
        Binary places below the largest magnitude, at most 23.

    >>> exact_bits((1, 1, 32, 32), (1, 1, 9, 9))
    17
    """
    channels, places = x_shape[1], math.prod(x_shape[2:])
    growth = math.log2(12 * math.log2(2 * places) + 2 * channels)
    growth += math.log2(math.prod(weight_shape[1:]) * channels * places) / 2
    return int((51 - growth) // 2)


def leading_bits(x: Tensor, bits: int) -> Tensor:
    """Round each sample to `bits` binary places below its largest magnitude.

    Args:
        x: Shape `(batch, ...)`, float64.
        bits: Places kept, at least 1.

    Returns:
        float64 with the shape of `x`; `x` less this is exact.

    >>> leading_bits(torch.tensor([[1.0, 0.3]], dtype=torch.float64), 2)
    tensor([[1.0000, 0.5000]], dtype=torch.float64)
    """
    unit = binary_unit(x, bits)
    return torch.round(x / unit) * unit


def binary_unit(x: Tensor, bits: int) -> Tensor:
    """Return a power of two for each entry of the first axis, with `|x / unit| <= 2^bits`.

    Args:
        x: Shape `(batch, ...)`, float64.
        bits: Binary places below the largest magnitude of each entry of the first axis.

    Returns:
        float64 of shape `(batch, 1, ...)`.

    >>> binary_unit(torch.tensor([[3.0, -5.0], [0.5, 0.0]], dtype=torch.float64), 2)
    tensor([[2.0000],
            [0.2500]], dtype=torch.float64)
    """
    flat = x.detach().flatten(1)
    largest = torch.maximum(flat.amax(1), -flat.amin(1)).reshape(-1, *[1] * (x.ndim - 1))
    exponent = ((largest.view(torch.int64) >> 52) - 1022).clamp(
        min=-900
    ) - bits  # as `frexp` has it
    return ((exponent + 1023) << 52).view(torch.float64)  # a power of two, made of its bits


def full_size_filters(weight: Tensor, spatial: Sequence[int], dilation: int) -> Tensor:
    """Lay taps on a lattice as large as the image; the tap that reads place `i` is at index 0.

    Args:
        weight: Shape `(out_channels, in_channels, *kernel_size)`.
        spatial: Size of each axis of the image, pixels.
        dilation: Distance between taps, pixels.

    Returns:
        Shape `(out_channels, in_channels, *spatial)`, dtype of `weight`.

    >>> full_size_filters(torch.tensor([[[1, 2, 3]]]), (5,), 1)
    tensor([[[2, 3, 0, 0, 1]]])
    """
    index = torch.zeros((), dtype=torch.int64, device=weight.device)
    for kernel_size, size in zip(weight.shape[2:], spatial, strict=True):
        taps = torch.arange(kernel_size, device=weight.device) * dilation
        index = index.unsqueeze(-1) * size + (taps - dilation * (kernel_size - 1) // 2) % size
    flat = weight.new_zeros(*weight.shape[:2], math.prod(spatial))
    full = flat.index_copy(2, index.flatten(), weight.flatten(2))
    return full.reshape(*weight.shape[:2], *spatial)


def _wrap(x: Tensor, kernel_size: Sequence[int], dilation: int) -> Tensor:
    padding: list[int] = []
    for size in reversed(kernel_size):
        total = dilation * (size - 1)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding, mode="circular")


def _check(
    x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, method: ConvMethod
) -> None:
    if method not in CONV_METHODS:
        raise ValueError(f"Expected `method` to be one of {CONV_METHODS}, but got {method!r}.")
    if dilation < 1:
        raise ValueError(f"Expected `dilation` to be at least 1, but got {dilation}.")
    _check_shapes(x, weight, bias)
    for kernel_size, size in zip(weight.shape[2:], x.shape[2:], strict=True):
        if dilation * (kernel_size - 1) + 1 > size:
            raise ValueError(
                f"Expected the kernel to span at most the image, {size} pixels, but got "
                f"{kernel_size} taps at dilation {dilation}."
            )
    if method == "depthwise" and tuple(weight.shape[:2]) != (1, 1):
        raise ValueError(
            f"Expected one channel in and one out for method 'depthwise', "
            f"but got {weight.shape[1]} in and {weight.shape[0]} out."
        )
    if not x.is_floating_point() or not weight.is_floating_point():
        raise TypeError(
            f"Expected `x` and `weight` to be floating, but got {x.dtype} and {weight.dtype}."
        )
    if (
        method != "exact"
        and x.dtype != weight.dtype
        and not torch.is_autocast_enabled(x.device.type)
    ):
        raise TypeError(
            f"Expected `x` and `weight` to have the same dtype, "
            f"but got {x.dtype} and {weight.dtype}."
        )


def _check_shapes(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"Expected `x` to have shape (batch, channels, *spatial) with 1 to 3 spatial axes, "
            f"but got {tuple(x.shape)}."
        )
    if weight.ndim != x.ndim or weight.shape[1] != x.shape[1]:
        raise ValueError(
            f"Expected `weight` to have shape (out_channels, {x.shape[1]}, *kernel_size) with "
            f"{x.ndim - 2} spatial axes, but got {tuple(weight.shape)}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"Expected `bias` to have shape ({weight.shape[0]},), but got {tuple(bias.shape)}."
        )
