"""Lemma 4.3: integers to their bits, by a network of circular filters."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.nn import CircularConv


class BinaryDecomposition(nn.Module):
    r"""Split integers into their bits, by ReLU layers of 1 × 1 circular filters.

    From the highest bit down, with the remainder `r = v − Σ_{p>q} 2^p b_p`: `t = relu(2^q − r)`,
    `b_q = relu(1 − t)`. If `r ≥ 2^q` then `t = 0` and the bit is 1, else `t ≥ 1` and it is 0. The
    value and the bits found so far pass through: no ReLU changes what is not negative.

    Args:
        in_channels: Channels of the images, `P`.
        num_bits: Bits of an entry, `Q`, 1 to 16.
        num_spatial_dims: Number of spatial axes, 1 to 3.

    Shapes:
        Input `(batch, P, *spatial)`, floating, integers from 0 to `2^Q − 1`; output
        `(batch, P · Q, *spatial)`, zeros and ones, the highest bits of all channels first. Exact in
        float32 and float64. `2 Q` layers, at most `P (Q + 1)` wide.

    Raises:
        ValueError: If a number is out of range; in `forward` for another number of channels.

    Source: Lemma 4.3.

    >>> BinaryDecomposition(1, 3, num_spatial_dims=1)(torch.tensor([[[6.0, 1.0]]]))
    tensor([[[1., 0.],
             [1., 0.],
             [0., 1.]]])
    """

    def __init__(self, in_channels: int, num_bits: int, *, num_spatial_dims: int = 2) -> None:
        super().__init__()
        for name, value, largest in (
            ("num_bits", num_bits, 16),
            ("num_spatial_dims", num_spatial_dims, 3),
        ):
            if not 1 <= value <= largest:
                raise ValueError(f"Expected `{name}` to be from 1 to {largest}, but got {value}.")
        self.in_channels = in_channels
        self.num_bits = num_bits
        self.num_spatial_dims = num_spatial_dims
        self.layers = nn.ModuleList()
        for bit in reversed(range(num_bits)):
            for matrix, constants in _bit_layers(bit, num_bits - 1 - bit):
                weight = torch.kron(matrix, torch.eye(in_channels))  # each channel by itself
                layer = CircularConv(num_spatial_dims, weight.shape[1], weight.shape[0], 1)
                bias = constants.repeat_interleave(in_channels)
                layer.load_state_dict({"weight": weight.view_as(layer.filters()), "bias": bias})
                self.layers.append(layer.requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the bits, in the dtype of `x`."""
        for layer in self.layers:
            x = convolve(layer, x).relu_()
        return x


def _bit_layers(bit: int, found: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield matrix and constants of the two layers that find one bit after `found` higher ones."""
    rest = [-1.0, *(2.0 ** (bit + found - place) for place in range(found))]
    constants = torch.zeros(found + 2)
    constants[-1] = 2.0**bit
    yield torch.cat([torch.eye(found + 1), torch.tensor([rest])]), constants
    matrix, constants = torch.eye(found + 2), torch.zeros(found + 2)
    matrix[-1, -1], constants[-1] = -1.0, 1.0
    first = 1 if bit == 0 else 0  # the value itself is not needed after the last bit
    yield matrix[first:], constants[first:]


def convolve(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer in the dtype of `x`, which may be finer than that of its weights."""
    if not isinstance(layer, CircularConv):
        raise TypeError(f"Expected `layer` to be circular, but got {type(layer).__name__}.")
    bias = None if layer.bias is None else layer.bias.to(x)
    return circular_conv(x, layer.filters().to(x), bias=bias)
