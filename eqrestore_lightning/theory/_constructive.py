"""Theorem 4.5: an estimator that is computed, not trained, and correct on every image of a set."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.nn import CircularConv, register_estimator
from eqrestore_lightning.nn._base import check_factor, check_spatial_size
from eqrestore_lightning.nn._shift import ShiftEstimator
from eqrestore_lightning.theory._aperiodic import find_translates

_LARGEST_WEIGHT = 2**24  # up to here float32, in which weights are stored, holds every integer
_BATCH = 64  # images scored at a time
_ENTRIES = 2**22  # entries of hidden maps held at a time
_STEPS = (1, 2, 4, 8)  # distances at which pairs of pixels are counted


class BinaryDecomposition(nn.Module):
    """Lemma 4.3: `(batch, P, *spatial)` to bits `(batch, P · Q, *spatial)`, the highest first.

    With the remainder `r = v − Σ_{p>q} 2^p b_p`: `t = relu(2^q − r)`, `b_q = relu(1 − t)`.
    """

    def __init__(self, in_channels: int, num_bits: int, *, num_spatial_dims: int = 2) -> None:
        super().__init__()
        if not 1 <= num_bits <= 16:
            raise ValueError(f"Expected `num_bits` to be from 1 to 16, but got {num_bits}.")
        self.layers = nn.ModuleList()
        for bit in reversed(range(num_bits)):
            for matrix, constants in _bit_layers(bit, num_bits - 1 - bit):
                weight = torch.kron(matrix, torch.eye(in_channels))  # each channel by itself
                layer = CircularConv(num_spatial_dims, weight.shape[1], weight.shape[0], 1)
                bias = constants.repeat_interleave(in_channels)
                layer.load_state_dict({"weight": weight.view_as(layer.filters()), "bias": bias})
                self.layers.append(layer.requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the bits, in the dtype of `x`, which may be finer than that of the weights."""
        for layer in self.layers:
            taps = {name: tensor.to(x) for name, tensor in layer.state_dict().items()}
            x = circular_conv(x, **taps).relu_()
        return x


@register_estimator
class ConstructedEstimator(ShiftEstimator):
    r"""Find each of a set of integer images, however shifted: `2 Q + 2` layers, no training.

    `2 Q` layers of 1 × 1 circular filters split entries into their `Q` bits. On these,
    `u_s(z)[k] = relu(⟨T^k x_s, z⟩ − ‖x_s‖₁ + 1)` is 1 where the image `x_s`, shifted by `k`, lies
    inside `z`, else 0; the score is `Σ_s w_s u_s(z)[k]`. Going through the images by the number of
    their ones, `w_t` is chosen so that `x_t` outvotes at index 0 all smaller images that lie inside
    it elsewhere. `from_images` does that; the constructor alone leaves all weights 0.

    Every image of the set has its largest score at index 0, ahead by at least 1, and so under every
    shift; all sums are exact. Other images are scored equivariantly too, but where their largest
    score lies is not specified: if no image of the set lies inside, all scores are 0, and `locate`
    breaks the tie by content. Each image of the set costs one hidden channel and `channels · Q · N`
    weights.

    Convention:
        Integer images are read as they are, floating ones as torchvision scales them: 0…1 stand for
        0…2^Q − 1, rounded. Entries out of range are clamped.

    Args:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis, pixels; one to three of them.
        num_templates: Number of images of the set.
        num_bits: Bits of an entry, `Q`, 1 to 16.

    Shapes:
        Input `(batch, in_channels, *spatial_size)`, any real dtype; output
        `(batch, *spatial_size)`.

    Raises:
        ValueError: If a number is out of range.

    Source: Theorem 4.5, Lemmas 4.3 and 4.4.

    >>> images = torch.tensor([[[7, 20, 0, 0, 9]], [[7, 21, 0, 0, 9]]], dtype=torch.uint8)
    >>> estimator = ConstructedEstimator.from_images(images)
    >>> estimator.exact_scores(images.roll(3, 2)).argmax(1)
    tensor([3, 3])
    """

    spatial_size: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        num_templates: int,
        num_bits: int = 8,
    ) -> None:
        super().__init__()
        check_spatial_size(spatial_size)
        dims = len(spatial_size)
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.axes = tuple(range(-dims, 0))
        self.num_templates = num_templates
        self.num_bits = num_bits
        self.decomposition = BinaryDecomposition(in_channels, num_bits, num_spatial_dims=dims)
        self.match = CircularConv(dims, in_channels * num_bits, num_templates, self.spatial_size)
        self.vote = CircularConv(dims, num_templates, 1, 1, bias=False)
        self.requires_grad_(False)
        for parameter in (*self.match.parameters(), *self.vote.parameters()):
            parameter.zero_()
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    @torch.no_grad()
    def from_images(cls, images: Tensor, *, num_bits: int = 8) -> "ConstructedEstimator":
        """Compute the estimator of a set of images.

        Args:
            images: Shape `(num_images, channels, *spatial)`, integers from 0 to `2^num_bits − 1`.
                Exact duplicates are stored once.
            num_bits: Bits of an entry, 1 to 16.

        Returns:
            The estimator, float32, on the device of `images`.

        Raises:
            TypeError: If `images` does not hold integers.
            ValueError: If there are no images, an entry is out of range, the set is not aperiodic,
                or a weight exceeds 2^24; the message names the images.
        """
        if images.ndim < 3 or len(images) == 0:
            raise ValueError(
                f"Expected `images` to have shape (num_images, channels, *spatial) with at least "
                f"one image, but got {tuple(images.shape)}."
            )
        duplicates = _duplicates(images)
        lowest, highest = int(images.min()), int(images.max())
        if lowest < 0 or highest >= 2**num_bits:
            raise ValueError(
                f"Expected `images` to hold 0 to {2**num_bits - 1}, which have {num_bits} bits, "
                f"but got {lowest} to {highest}."
            )
        kept = torch.tensor([n for n in range(len(images)) if n not in duplicates])
        size = tuple(images.shape[2:])
        estimator = cls(images.shape[1], size, num_templates=len(kept), num_bits=num_bits)
        estimator.to(images.device)
        bits = estimator._bits(images[kept])
        norms = bits.flatten(1).sum(1)
        order = norms.argsort(stable=True)
        left = [(length - 1) // 2 for length in size]  # the tap that is read at index 0
        filters = bits[order].float().roll(left, list(range(2, images.ndim)))
        estimator.match.load_state_dict({"weight": filters, "bias": 1 - norms[order].float()})
        estimator._choose_votes(bits[order], kept[order.cpu()].tolist())
        return estimator

    def _choose_votes(self, templates: Tensor, numbers: Sequence[int]) -> None:
        """Choose the weights, by increasing norm, with which images outvote the smaller ones."""
        pairs = _count_pairs(self.match.filters())
        votes = self.vote.filters().flatten()  # 0, and so without effect, until chosen
        for order, number in enumerate(numbers):
            scores = self._score(templates[order : order + 1], pairs).flatten()
            elsewhere = float(scores[1:].max()) if len(scores) > 1 else 0.0
            weight = 1 + max(0.0, elsewhere - float(scores[0]))
            if weight > _LARGEST_WEIGHT:
                raise ValueError(
                    f"Expected weights of at most {_LARGEST_WEIGHT}, which float32 holds exactly, "
                    f"but image {number} needs {weight:.0f}: smaller images, each inside the next, "
                    f"outvote it. Leave some out."
                )
            votes[order] = weight

    @property
    @override
    def config(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "spatial_size": list(self.spatial_size),
            "num_templates": self.num_templates,
            "num_bits": self.num_bits,
        }

    @torch.no_grad()
    @override
    def scale_scores(self, factor: float) -> None:
        check_factor(factor)
        self.scale.mul_(factor)

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        del exact  # always, as nothing here is trained
        bits, pairs = self._bits(x), _count_pairs(self.match.filters())
        scores = torch.cat([self._score(part, pairs) for part in torch.split(bits, _BATCH)])
        finite = as_float64(x).isfinite().flatten(1).all(1).reshape(-1, *[1] * (x.ndim - 2))
        return torch.where(finite, scores * self.scale.to(bits), torch.nan)

    def _bits(self, x: Tensor) -> Tensor:
        """Return the bits of images, float64 of shape `(batch, channels · Q, *spatial)`."""
        largest = 2**self.num_bits - 1
        values = as_float64(x)
        if x.is_floating_point():
            values = (values * largest).round().nan_to_num()
        parts = torch.split(values.clamp(0, largest), _BATCH)
        return torch.cat([self.decomposition(part) for part in parts])

    def _score(self, bits: Tensor, pairs: Tensor) -> Tensor:
        """Score binary images, without the units that `pairs`, the templates' counts, rule out.

        A template inside an image has at most as many ones, and as many pairs of ones at any
        distance; both can be counted quickly and are the same for all shifts.
        """
        scores = bits.new_zeros(bits.shape[0], *self.spatial_size)
        votes, filters = self.vote.filters().flatten(), self.match.filters()
        constants = self.match.state_dict()["bias"]
        found, group = torch.unique(_count_pairs(bits), dim=0, return_inverse=True)
        for number, counts in enumerate(found):
            units = ((pairs <= counts).all(1) & (votes > 0)).nonzero().flatten()
            weight, bias = filters[units], constants[units]
            rows = (group == number).nonzero().flatten()
            places = max(1, len(units)) * math.prod(self.spatial_size)
            for part in torch.split(rows, max(1, _ENTRIES // places)) if len(units) else ():
                hidden = circular_conv(bits[part], weight, bias=bias, method="exact").relu_()
                scores[part] = torch.einsum("bs...,s->b...", hidden, votes[units].to(hidden))
        return scores


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


def _count_pairs(bits: Tensor) -> Tensor:
    """Count the ones of each channel and its pairs at some distances: `(batch, num_counts)`."""
    ones = bits.bool()
    counts = [ones.flatten(2).sum(2, dtype=torch.float32)]
    for axis in range(2, bits.ndim):
        steps = [step for step in _STEPS if 2 * step <= bits.shape[axis]]
        pairs = ((ones & ones.roll(step, axis)).flatten(2) for step in steps)
        counts += [pair.sum(2, dtype=torch.float32) for pair in pairs]
    return torch.cat(counts, 1)


def _duplicates(images: Tensor) -> set[int]:
    """Return the exact duplicates; reject images that are shifts of others or of themselves."""
    translates = find_translates(images)
    harmful = [found for found in translates if any(found.shift)]
    if harmful:
        named = [f"image {a} shifted by {shift} is image {b}" for a, b, shift in harmful[:3]]
        more = f" and {len(harmful) - 3} more" if len(harmful) > 3 else ""
        raise ValueError(
            f"Expected `images` to be aperiodic, so that each has one place, but "
            f"{', '.join(named)}{more}."
        )
    return {found.second for found in translates}
