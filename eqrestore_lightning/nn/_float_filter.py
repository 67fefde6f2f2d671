"""Scores of small networks in float32, with a bound on how far the exact ones are from them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional._conv_ways import full_size_filters
from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.functional._exact_conv import exact_bits, leading_bits
from eqrestore_lightning.nn._circular_conv import CircularConv

_UNIT = 2.0**-24  # float32 rounds by at most this, relative
_TINY = 2.0**-900  # far above where float64 ends


class FloatFilter:
    r"""Score every shift in float32, and bound the distance to the exact scores.

    For networks of one layer, or of a second one of single taps after it: `Σ_c v_c relu(w_c ⊛ x +
    b_c)`. The exact scores round `x` and `w` to integers times units, then the hidden layer and
    `v`. Here `x`, `w` and `v` are those same numbers, which float32 holds without error, so that
    three errors remain. With the Euclidean norms `n = |x|` and `n_c = |w_c|`, `u = 2^-24`, C
    channels of the image, K hidden ones and N places they are, for the hidden channel `c`:

    1. spectra in float32: at most `u (12 log2(2 N) + 2 C) n n_c` (see `exact_bits`; twice that
       where a size is no power of two), and `2 u (n n_c + |b_c|)` for adding the bias, here and in
       the exact path, whose float64 rounds by far less; ReLU does not enlarge them;
    2. the hidden layer is not rounded here: at most half a unit, `2^-bits max_c (n n_c + |b_c|)`,
       as no sum of products is above `n n_c` (Cauchy and Schwarz);
    3. the sum over `c`, of K products in any order: `(K + 1) u Σ |v_c| (n n_c + |b_c|)`, and as
       much again of the errors before it.

    Here `x` is divided by a power of two times the largest magnitude of its sample, which gives the
    quotients of the exact path bit for bit, unless that magnitude is below 2^-900. `n` is computed
    in float32, as the root of a sum of C N squares, and enlarged by `(C N + 2) u`, by more than
    which no order of summation falls short. Sums are written out, as matrix products may be
    computed in less than float32.
    """

    def __init__(
        self, layers: Sequence[CircularConv], shape: Sequence[int], device: torch.device
    ) -> None:
        first, *rest = layers
        self.spatial = tuple(shape[2:])
        self.axes = tuple(range(2, len(shape)))
        weight = first.filters().to(device).double()
        self.bits = exact_bits(shape, weight.shape)
        weight = leading_bits(weight, self.bits)
        self.sizes = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        full = full_size_filters(weight, self.spatial, first.dilation)
        self.filters = torch.fft.rfftn(full, dim=self.axes).conj().to(torch.complex64)
        headroom = 1 if all(size & (size - 1) == 0 for size in self.spatial) else 2
        self.growth = headroom * (12 * math.log2(2 * math.prod(self.spatial)) + 2 * shape[1])
        self.bias = None if first.bias is None else first.bias.to(device)
        self.last: Tensor | None = None
        if rest:
            last = rest[0].filters().to(device).double()
            self.hidden_bits = exact_bits((1, last.shape[1], *self.spatial), last.shape)
            self.last = leading_bits(last, self.hidden_bits)

    @staticmethod
    def applies(layers: Sequence[CircularConv]) -> bool:
        """Check for one layer, or a second one of single taps after it."""
        return len(layers) == 1 or (len(layers) == 2 and max(layers[1].kernel_size) == 1)

    def scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 scores and the bound of each image, infinite or NaN in doubt."""
        if x.dtype not in (torch.uint8, torch.float32, torch.float64):
            x = as_float64(x)
        flat = x.flatten(1)
        largest = torch.maximum(flat.amax(1).double(), -flat.amin(1).double()).unsqueeze(1)
        unit = largest.clamp(min=_TINY).mul(2.0 ** (1 - self.bits))
        rounded = x / unit.reshape(-1, *[1] * (x.ndim - 1))
        x = rounded.round_().float().mul_(2.0 ** (1 - self.bits))
        size = torch.linalg.vector_norm(x.flatten(1), dim=1, keepdim=True).double()
        size = size * (1 + (flat.shape[1] + 2) * _UNIT)  # a sum of so many squares, in any order
        size = torch.where((largest == 0) | (largest >= _TINY), size, math.inf)
        spectrum = torch.fft.rfftn(x, dim=self.axes)
        if x.shape[1] > 1:
            spectrum = (spectrum.unsqueeze(1) * self.filters).sum(2)
        else:
            spectrum = spectrum * self.filters.squeeze(1)
        y = torch.fft.irfftn(spectrum, s=self.spatial, dim=self.axes)
        reach = size * self.sizes  # of sums of products, (batch, hidden channels)
        error = _UNIT * self.growth * reach
        if self.last is None:
            return y.squeeze(1), error.squeeze(1)
        if self.bias is not None:
            y += self.bias.reshape(-1, *[1] * len(self.spatial))
            reach = reach + self.bias.abs()
        scores = (y.relu_() * self.last.float()).sum(1)
        error = error + 2 * _UNIT * reach
        error = error + 2.0**-self.hidden_bits * reach.amax(1, keepdim=True)
        last = self.last.flatten().abs()
        summing = (len(last) + 1) * _UNIT
        return scores, (((1 + summing) * error + summing * reach) * last).sum(1)
