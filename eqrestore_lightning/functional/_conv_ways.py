"""Ways to evaluate a circular convolution, without checks of what comes in."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Taps up to which direct sums over many channels are faster than spectra on a CPU, from what
# `python recipes/speed.py --only '["crossover"]'` printed on two cores; not measured elsewhere.
LOCAL_TAPS = 5 * 5

TORCH_CONV: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


class Spectra:
    """Filters as spectra, by which those of many batches of images are multiplied."""

    def __init__(self, weight: Tensor, spatial: Sequence[int], dilation: int) -> None:
        self.spatial = tuple(spatial)
        self.axes = tuple(range(2, weight.ndim))
        full = full_size_filters(weight, spatial, dilation)
        filters = torch.fft.rfftn(full, dim=self.axes).conj()
        if weight.shape[1] == 1:
            self.filters = filters.squeeze(1)
        else:  # frequencies first and conjugates written out: twice as fast as `einsum`
            self.filters = filters.resolve_conj().flatten(2).permute(2, 1, 0).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve `x`, at least one image of the dtype of the filters."""
        spectrum = torch.fft.rfftn(x, dim=self.axes)
        if x.shape[1] == 1:
            product = spectrum * self.filters
        else:
            rows = spectrum.flatten(2).permute(2, 0, 1).contiguous()
            product = (rows @ self.filters).permute(1, 2, 0).contiguous()
            product = product.unflatten(2, spectrum.shape[2:])
        y: Tensor = torch.fft.irfftn(product, s=self.spatial, dim=self.axes)
        return y


def direct_conv(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Pad by wrapping, then call torch's convolution."""
    wrapped = wrap(x, weight.shape[2:], dilation)
    return TORCH_CONV[x.ndim](wrapped, weight, bias, dilation=dilation)


def pointwise_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the channels at each place by a matrix: filters of a single tap."""
    y = torch.matmul(weight.flatten(1), x.flatten(2))
    return y.reshape(x.shape[0], weight.shape[0], *x.shape[2:])


def full_size_filters(weight: Tensor, spatial: Sequence[int], dilation: int) -> Tensor:
    """Lay taps on a lattice as large as the image; the tap that reads place `i` is at index 0."""
    index = torch.zeros((), dtype=torch.int64, device=weight.device)
    for kernel_size, size in zip(weight.shape[2:], spatial, strict=True):
        taps = torch.arange(kernel_size, device=weight.device) * dilation
        index = index.unsqueeze(-1) * size + (taps - dilation * (kernel_size - 1) // 2) % size
    flat = weight.new_zeros(*weight.shape[:2], math.prod(spatial))
    full = flat.index_copy(2, index.flatten(), weight.flatten(2))
    return full.reshape(*weight.shape[:2], *spatial)


def wrap(x: Tensor, kernel_size: Sequence[int], dilation: int) -> Tensor:
    """Pad so that filters read on from the other end."""
    padding: list[int] = []
    for size in reversed(kernel_size):
        total = dilation * (size - 1)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding, mode="circular") if any(padding) else x
