"""Layers that add up small integers only: exact in float32, whatever the order of summation."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.functional._exact_conv import binary_unit, convolve_integers

LEVELS = 255
"""Largest entry of images and activations, which are integers from 0 on."""

_HELD_BY_FLOAT32 = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.bool,
)
_WEIGHT_UNIT = 2.0**-7
_LARGEST_WEIGHT = 255  # in that unit
_LARGEST_BIAS = 512.0
# float32 holds every integer up to 2^24; here the unit is 1/128.
_MOST_TERMS = int((2**24 - _LARGEST_BIAS / _WEIGHT_UNIT) // (LEVELS * _LARGEST_WEIGHT))


class IntegerConv2d(nn.Module):
    """Convolve integers from 0 to 255 with filters rounded to multiples of 1/128, without padding.

    All products and all their partial sums are multiples of 1/128 below 2^17, hence exact in
    float32, in any order, also where operands are first rounded to bfloat16 or TF32, which hold
    them exactly. Gradients pass the rounding of the weights as if it were not there.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int]) -> None:
        super().__init__()
        terms = in_channels * math.prod(kernel_size)
        if terms > _MOST_TERMS:
            raise ValueError(
                f"Expected at most {_MOST_TERMS} products in a sum, so that it is exact, "
                f"but got {in_channels} channels of {tuple(kernel_size)} taps."
            )
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw filters that keep the size of what goes through."""
        self.weight.normal_(0, math.sqrt(2 / max(1, self.weight[0].numel())))
        self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x`."""
        limit = _LARGEST_WEIGHT * _WEIGHT_UNIT
        weight = round_through(self.weight, _WEIGHT_UNIT, limit)
        bias = round_through(self.bias, 1.0, _LARGEST_BIAS)
        taps = weight.shape[2:]
        if max(taps) == 1:
            return F.linear(x.movedim(1, 3), weight.flatten(1), bias).movedim(3, 1)
        return convolve_integers(x, weight, bias)


def as_precise(x: Tensor, bits: int | None) -> Tensor:
    """Return images in the dtype for exact scores: float64, or float32 if there are `bits`."""
    if bits is None:
        return as_float64(x)
    if x.dtype in _HELD_BY_FLOAT32:
        return (x.cpu() if x.device.type == "mps" else x).float()
    x = as_float64(x)
    return (x * binary_unit(x, 0).reciprocal()).float()


def to_levels(x: Tensor, levels: int = LEVELS) -> Tensor:
    """Map each sample to float32 integers: its least entry to 0, its largest to `levels`."""
    exact = x.float() if x.dtype in _HELD_BY_FLOAT32 else as_float64(x)
    if x.dtype in (torch.float32, torch.bfloat16, torch.float64):
        exact = exact * 0.5  # so that differences of the largest numbers are finite
    axes = tuple(range(1, x.ndim))
    least = exact.amin(axes, keepdim=True)
    span = exact.amax(axes, keepdim=True) - least
    # Constant samples become 0, those with entries that are not finite NaN.
    span = torch.where(span == 0, 1.0, torch.where(span < math.inf, span, math.nan))
    y = (exact - least).div_(span).mul_(levels).round_()
    return y.to(x.device, torch.float32)


def relu_to_levels_(x: Tensor) -> Tensor:
    """Apply ReLU, cut at 255 and round, in place; gradients pass the rounding unchanged."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _ReluToLevels.apply(x)  # type: ignore[no-any-return]
    return F.hardtanh_(x.round_(), 0, LEVELS)


def row_sums(x: Tensor) -> Tensor:
    """Sum integers from 0 to 255 along the last axis, at most 65,793 of them: exact."""
    # A product with ones is several times faster than `sum` where channels lie innermost.
    return torch.matmul(x.new_ones(1, x.shape[3]), x.movedim(1, 3)).squeeze(2).movedim(2, 1)


def round_through(x: Tensor, unit: float, limit: float) -> Tensor:
    """Cut at ±`limit` and round to multiples of `unit`; gradients pass the rounding unchanged."""
    x = x.clamp(-limit, limit) / unit
    rounded = x.round()
    if x.requires_grad:
        rounded = x + (rounded - x).detach()  # exact, as the difference is
    return rounded * unit


class _ReluToLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.round_().clamp_(0, LEVELS)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        # Written so that the memory format of `y` is kept, whatever that of `grad`.
        grad = torch.empty_like(y).copy_(grad)
        return torch.ops.aten.hardtanh_backward(grad, y, 0, LEVELS)  # type: ignore[no-any-return]
