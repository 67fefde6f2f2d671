"""Circular convolution: one definition, several ways to evaluate it."""

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from eqrestore_lightning.functional._conv_ways import (
    LOCAL_TAPS,
    TORCH_CONV,
    Spectra,
    direct_conv,
    pointwise_conv,
    wrap,
)
from eqrestore_lightning.functional._exact_conv import ExactFilters

ConvMethod: TypeAlias = Literal["auto", "direct", "fft", "depthwise", "exact"]
CONV_METHODS: tuple[ConvMethod, ...] = get_args(ConvMethod)

# Chosen as `LOCAL_TAPS` is.
_DEPTHWISE_MAX_TAPS = 15 * 15
_DIRECT_MAX_TAPS_ELSEWHERE = 15 * 15


def circular_conv(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    dilation: int = 1,
    method: ConvMethod = "auto",
    bits: int | None = None,
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
        - `"exact"`: `x` and `weight` are rounded to integers of `bits` bits, relative to the
          largest magnitude in a sample and in an output filter, and sums of their products are
          those of integers: directly in float32 where it holds them and there are at most 5 × 5
          taps, else by spectra in float64, rounded. The result does not depend on the order of
          summation and is therefore **bitwise equivariant** on any device with float64. No
          gradients pass.
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
        bits: For `"exact"`, binary places kept of both operands. `None`: as many as float64 adds
            exactly, 14 to 21 (fewer for larger sums), in units that are powers of two. 8: integers
            from −256 to 256, of which float32 holds the sums of 256 products, and of more where
            weights are small; a fraction of the time.

    Returns:
        Shape `(batch, out_channels, *spatial)`, dtype of `x`; for `"exact"` at least float32.

    Raises:
        TypeError: If a dtype is not floating or the dtypes differ.
        ValueError: If the shapes do not match, the kernel does not fit into the image, `dilation`
            is below 1, `method` is unknown or does not apply, or `bits` is given for another
            method, below 1 or more than can be added exactly.

    Source: Definition 3.5 and Equation (3).

    >>> x = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    >>> circular_conv(x, torch.tensor([[[1.0, 2.0, 3.0]]]), method="direct")
    tensor([[[3., 2., 1., 0.]]])
    """
    _check(x, weight, bias, dilation, method, bits)
    pointwise = math.prod(weight.shape[2:]) == 1
    if method == "auto" and not pointwise:
        method = _choose(x, weight, bias)
    if method == "direct":
        return direct_conv(x, weight, bias, dilation)
    if method == "auto":
        y = pointwise_conv(x, weight)
    elif method == "depthwise":
        y = _depthwise(x, weight, dilation)
    elif method == "fft":
        y = _fft(x, weight, dilation)
    else:
        y = ExactFilters(weight.to(x.device), x.shape[2:], dilation, bits)(x)
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
    return "fft" if min(channels) == 1 or taps > LOCAL_TAPS else "direct"


def _depthwise(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    batch = x.shape[0]
    if batch == 0:
        return pointwise_conv(x, weight.flatten(2).sum(2))
    channels = 32 if batch % 32 == 0 else batch  # 32 at a time suit the vector units best
    wrapped = wrap(x, weight.shape[2:], dilation)
    wrapped = wrapped.reshape(batch // channels, channels, *wrapped.shape[2:])
    filters = weight.expand(channels, *weight.shape[1:])
    y = TORCH_CONV[x.ndim](wrapped, filters, groups=channels, dilation=dilation)
    return y.reshape(x.shape)


def _fft(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    dtype = x.dtype
    if x.shape[0] == 0:  # torch 2.14 raises on an empty transform; a product keeps gradients
        return pointwise_conv(x, weight.flatten(2).sum(2)).to(dtype)
    if dtype in (torch.float16, torch.bfloat16):  # no spectra in half precision on a CPU
        x, weight = x.float(), weight.float()
    return Spectra(weight, x.shape[2:], dilation)(x).to(dtype)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dilation: int,
    method: ConvMethod,
    bits: int | None,
) -> None:
    if method not in CONV_METHODS:
        raise ValueError(f"Expected `method` to be one of {CONV_METHODS}, but got {method!r}.")
    if bits is not None and method != "exact":
        raise ValueError(f"Expected `bits` for method 'exact' only, but got method {method!r}.")
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
