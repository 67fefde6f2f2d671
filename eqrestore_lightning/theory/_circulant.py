"""Theorem 3.4, both ways: filters as matrices, and any equivariant operator as a filter."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.functional._conv_ways import full_size_filters

Operator = Callable[[Tensor], Tensor]


def circulant_matrix(weight: Tensor, spatial_size: Sequence[int]) -> Tensor:
    """Write a circular convolution as a matrix, with one block of `N × N` for each filter.

    `circulant_matrix(weight, x.shape[2:]) @ x[0].flatten()` is `circular_conv(x, weight)[0]`,
    flattened. Every row of a block is the row above it, shifted by one place.

    Convention:
        Rows and columns count channels first, then places in row-major order: the order in which
        `flatten` lays out a sample.

    Args:
        weight: Filters of shape `(out_channels, in_channels, *kernel_size)`, any dtype.
        spatial_size: Size of each spatial axis, pixels; `N` is their product.

    Returns:
        Shape `(out_channels · N, in_channels · N)`, dtype of `weight`; exact.

    Raises:
        ValueError: If `weight` has another number of spatial axes than `spatial_size`, or a kernel
            does not fit into the image.

    Source: Definition 3.5 and Corollary 3.6.

    >>> circulant_matrix(torch.tensor([[[1, 2, 3]]]), (4,))
    tensor([[2, 3, 0, 1],
            [1, 2, 3, 0],
            [0, 1, 2, 3],
            [3, 0, 1, 2]])
    """
    if weight.ndim < 3 or weight.ndim != len(spatial_size) + 2:
        raise ValueError(
            f"Expected `weight` to have shape (out_channels, in_channels, *kernel_size) with "
            f"{len(spatial_size)} spatial axes, but got {tuple(weight.shape)}."
        )
    for taps, size in zip(weight.shape[2:], spatial_size, strict=True):
        if taps > size:
            raise ValueError(
                f"Expected the kernel to span at most the image, {size} pixels, but got {taps}."
            )
    offset = torch.zeros(1, 1, dtype=torch.int64, device=weight.device)
    for size in spatial_size:
        place = torch.arange(size, device=weight.device)
        step = (place - place.unsqueeze(1)) % size
        offset = (offset[:, None, :, None] * size + step[:, None]).reshape(
            offset.shape[0] * size, offset.shape[1] * size
        )
    blocks = full_size_filters(weight, spatial_size, 1).flatten(2)[:, :, offset]
    rows, columns = (channels * math.prod(spatial_size) for channels in weight.shape[:2])
    return blocks.transpose(1, 2).reshape(rows, columns)


@torch.no_grad()
def impulse_response(
    operator: Operator,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float64,
    tolerance: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Recover filter and bias of an affine equivariant operator that can only be called.

    `h = A(δ_0) − A(0)`, because `A(x) = h ⊛ x + b` holds for these operators and no others. Whether
    `operator` is one of them is tested on random images: an operator that is affine but not
    equivariant passes with probability 0, up to `tolerance`; one that is not affine passes only if
    it acts as an affine one on all images tried, whose entries have magnitudes of about 1 and
    1,000.

    Args:
        operator: From `(1, in_channels, *spatial)` to `(1, out_channels, *spatial)`, on the default
            device.
        shape: `(in_channels, *spatial)`.
        dtype: Dtype of the images it is called with, floating.
        tolerance: Largest difference that is attributed to rounding, relative to the largest
            magnitude; by default the square root of the spacing of `dtype` at 1 (1.5e-8 for
            float64).

    Returns:
        `weight` of shape `(out_channels, in_channels, *spatial)` and `bias` of shape
        `(out_channels,)`, in the dtype of the outputs, with which `circular_conv(x, weight,
        bias=bias)` equals `operator(x)`; exact up to the operator's rounding.

    Raises:
        TypeError: If `dtype` is not floating.
        ValueError: If `shape` has no spatial axis or an empty one, or the operator is not affine
            and equivariant; the message names the reason: it is random, not affine, changes the
            size, or has a bias or weights that depend on position.

    Source: Theorem 3.4; Jähne, Digital Image Processing, 1997.

    >>> conv = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", dtype=torch.float64)
    >>> weight, bias = impulse_response(conv, (1, 5))
    >>> torch.allclose(weight[..., 1:4], conv.weight), torch.allclose(bias, conv.bias)
    (True, True)
    """
    if not dtype.is_floating_point:
        raise TypeError(f"Expected `dtype` to be floating, but got {dtype}.")
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(
            f"Expected `shape` to be (in_channels, *spatial), each at least 1, but got "
            f"{tuple(shape)}."
        )
    tolerance = torch.finfo(dtype).eps ** 0.5 if tolerance is None else tolerance
    blank = torch.zeros(1, *shape, dtype=dtype)
    answer = operator(blank)
    _check_output(answer, shape)
    _check_affine(operator, blank, tolerance)
    bias = _constant(answer, tolerance * max(1.0, float(answer.abs().max())))
    responses = []
    for channel in range(shape[0]):
        impulse = blank.clone()
        impulse[0, channel, *[0] * (len(shape) - 1)] = 1
        responses.append((operator(impulse) - answer)[0])
    weight = _as_filter(torch.stack(responses, dim=1))
    _check_equivariant(operator, blank, weight, bias, tolerance)
    return weight, bias


def _as_filter(response: Tensor) -> Tensor:
    """Order a response, whose entry `i` weighs the pixel `i` places before, as `circular_conv`."""
    axes = tuple(range(2, response.ndim))
    after = response.flip(axes).roll((1,) * len(axes), axes)
    return after.roll(tuple((size - 1) // 2 for size in response.shape[2:]), axes)


def _check_output(answer: Tensor, shape: Sequence[int]) -> None:
    spatial = tuple(shape[1:])
    if answer.ndim != len(shape) + 1:
        raise ValueError(
            f"Expected `operator` to return (batch, channels, *spatial) with {len(spatial)} "
            f"spatial axes, but got {tuple(answer.shape)}: not equivariant, as there is "
            f"nothing to shift."
        )
    if tuple(answer.shape[2:]) != spatial:
        raise ValueError(
            f"Expected `operator` to keep the size of its images, {spatial}, but got "
            f"{tuple(answer.shape[2:])}: not equivariant, because of a stride, pooling or "
            f"missing padding."
        )


def _check_affine(operator: Operator, blank: Tensor, tolerance: float) -> None:
    """Compare `A(a x + b y)` with `a A(x) + b A(y)`, `a + b = 1`, on small and large images."""
    generator = torch.Generator(blank.device).manual_seed(0)
    for magnitude in (1.0, 1000.0):
        x, y = (magnitude * torch.empty_like(blank).normal_(generator=generator) for _ in "xy")
        answers = operator(x), operator(y), operator(x)
        if not torch.equal(answers[0], answers[2]):
            raise ValueError(
                "Expected `operator` to be a function of its images, but got two outputs for one "
                "image: it is random, as dropout is in training mode, or changes as it is used."
            )
        mixed = operator(1.75 * x - 0.75 * y)
        expected = 1.75 * answers[0] - 0.75 * answers[1]
        error = _relative(mixed - expected, expected)
        if not error <= tolerance:
            raise ValueError(
                f"Expected `operator` to be affine, but got A(1.75 x − 0.75 y) that differs from "
                f"1.75 A(x) − 0.75 A(y) by {error:.2g} of the largest entry: not linear, as ReLU "
                f"or normalization are not."
            )


def _constant(answer: Tensor, tolerance: float) -> Tensor:
    flat = answer[0].flatten(1)
    lowest, highest = flat.amin(1), flat.amax(1)
    channel = int((highest - lowest).argmax())
    if not highest[channel] - lowest[channel] <= tolerance:
        raise ValueError(
            f"Expected `operator` to add one constant to a channel, but got {lowest[channel]:.4g} "
            f"to {highest[channel]:.4g} in channel {channel} for a blank image: not equivariant, "
            f"the bias depends on position."
        )
    return flat[:, 0]


def _check_equivariant(
    operator: Operator, blank: Tensor, weight: Tensor, bias: Tensor, tolerance: float
) -> None:
    """Compare operator and filter on a random image: equal, almost surely, only if everywhere."""
    generator = torch.Generator(blank.device).manual_seed(1)
    x = torch.empty_like(blank).normal_(generator=generator)
    expected = operator(x)
    error = _relative(circular_conv(x.to(weight), weight, bias=bias) - expected, expected)
    if not error <= tolerance:
        raise ValueError(
            f"Expected `operator` to be translation equivariant, but it differs from the "
            f"convolution with its impulse response by {error:.2g} of the largest entry: its "
            f"weights depend on position, as with zeros around the border, a stride, or a dense "
            f"layer."
        )


def _relative(difference: Tensor, reference: Tensor) -> float:
    largest = float(reference.abs().max())
    return float(difference.abs().max()) / max(largest, torch.finfo(reference.dtype).tiny)
