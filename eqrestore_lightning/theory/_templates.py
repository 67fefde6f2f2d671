"""Lemma 4.4: a network that finds each of a set of binary images."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.nn import CircularConv, ShiftEstimator, register_estimator
from eqrestore_lightning.nn._base import check_factor, check_spatial_size
from eqrestore_lightning.theory._aperiodic import Translate, find_translates
from eqrestore_lightning.theory._binary import convolve

_LARGEST_WEIGHT = 2**24  # up to here float32, in which weights are stored, holds every integer
BATCH = 64  # images scored at a time
_ENTRIES = 2**22  # entries of hidden maps held at a time
_STEPS = (1, 2, 4, 8)  # distances at which pairs of pixels are counted


@register_estimator
class TemplateEstimator(ShiftEstimator):
    r"""Find each of a set of binary images, however shifted: two layers, no training.

    `u_s(z)[k] = relu(⟨T^k x_s, z⟩ − ‖x_s‖₁ + 1)` is 1 where the template `x_s`, shifted by `k`,
    lies inside `z`, else 0; the score is `Σ_s w_s u_s(z)[k]`. Going through the images by the
    number of their ones, `w_t` is chosen so that `x_t` outvotes at index 0 all smaller templates
    that lie inside it elsewhere. `from_images` does that; the constructor alone leaves all weights
    0.

    Every image of the set has its largest score at index 0, ahead by at least 1. Other images are
    scored equivariantly too, but where their largest score lies is not specified: if no template
    lies inside, all scores are 0, and `locate` breaks the tie by content.

    Convention:
        Integers and bool are read as they are, floating images are rounded; entries out of range
        are clamped.

    Args:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis, pixels; one to three of them.
        num_templates: Number of hidden channels, one for each image.

    Shapes:
        Input `(batch, in_channels, *spatial_size)`, any real dtype; output
        `(batch, *spatial_size)`.

    Raises:
        ValueError: If a number is out of range.

    Source: Lemma 4.4; for the weights `w_t` see `from_images`.

    >>> images = torch.tensor([[[0, 1, 1, 0, 0]], [[0, 1, 1, 1, 0]]])
    >>> estimator = TemplateEstimator.from_images(images)
    >>> estimator.exact_scores(images.roll(2, 2)).argmax(1)
    tensor([2, 2])
    """

    spatial_size: tuple[int, ...]

    def __init__(
        self, in_channels: int, spatial_size: Sequence[int], *, num_templates: int
    ) -> None:
        super().__init__()
        check_spatial_size(spatial_size)
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.axes = tuple(range(-len(spatial_size), 0))
        self.num_templates = num_templates
        dims = len(spatial_size)
        self.match = CircularConv(dims, in_channels, num_templates, self.spatial_size)
        self.vote = CircularConv(dims, num_templates, 1, 1, bias=False)
        self.requires_grad_(False)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))
        for parameter in self.parameters():
            parameter.zero_()

    @classmethod
    @torch.no_grad()
    def from_images(cls, images: Tensor) -> "TemplateEstimator":
        """Compute the estimator of a set of binary images.

        Args:
            images: Shape `(num_images, channels, *spatial)`, integers 0 and 1, or bool. Exact
                duplicates are stored once.

        Returns:
            The estimator, float32, on the device of `images`.

        Raises:
            TypeError: If `images` does not hold integers.
            ValueError: If there are no images, an entry is neither 0 nor 1, the set is not
                aperiodic, or a weight exceeds 2^24; the message names the images.
        """
        if len(images) == 0:
            raise ValueError("Expected at least one image, but got none.")
        duplicates = _duplicates(find_translates(images))
        if bool((images < 0).any()) or bool((images > 1).any()):
            raise ValueError(
                f"Expected `images` to hold zeros and ones, but got {int(images.min())} to "
                f"{int(images.max())}."
            )
        norms = images.flatten(1).long().sum(1)
        numbers = [n for n in norms.argsort(stable=True).tolist() if n not in duplicates]
        templates = images[numbers].float()
        estimator = cls(images.shape[1], images.shape[2:], num_templates=len(numbers))
        estimator.to(images.device)
        left = [(size - 1) // 2 for size in images.shape[2:]]
        axes = list(range(2, images.ndim))
        filters = templates.roll(left, axes)  # tap `left` is read at index 0
        estimator.match.load_state_dict({"weight": filters, "bias": 1 - norms[numbers]})
        estimator._choose_votes(templates.double(), numbers)
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
        }

    @torch.no_grad()
    @override
    def scale_scores(self, factor: float) -> None:
        check_factor(factor)
        self.scale.mul_(factor)

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        # If `exact`, units that cannot fire are skipped: a template inside an image has at most as
        # many ones in every channel, and at most as many pairs of ones at any distance. Both can be
        # counted quickly and are the same for all shifts.
        bits = read_integers(x, num_bits=1)
        if exact:
            return self.score_bits(bits, finite_images(x))
        hidden = convolve(self.match, bits).round().relu_()  # FFT leaves rounding errors
        return convolve(self.vote, hidden).squeeze(1) * self.scale.to(hidden)

    def score_bits(self, bits: Tensor, finite: Tensor) -> Tensor:
        """Score binary images exactly; NaN where `finite` is false."""
        pairs = _count_pairs(self.match.filters())
        scores = torch.cat([self._score(part, pairs) for part in torch.split(bits, BATCH)])
        return torch.where(finite, scores * self.scale.to(bits), torch.nan)

    def _score(self, bits: Tensor, pairs: Tensor) -> Tensor:
        """Score binary images; `pairs` holds the counts of the templates."""
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


def read_integers(x: Tensor, *, num_bits: int) -> Tensor:
    """Read images as integers from 0 to `2^num_bits − 1`, in float64."""
    largest = 2**num_bits - 1
    values = as_float64(x)
    if x.is_floating_point():
        values = (values * largest).round().nan_to_num()
    return values.clamp(0, largest)


def finite_images(x: Tensor) -> Tensor:
    """Check which images are finite, in a shape that broadcasts with scores."""
    finite = as_float64(x).isfinite().flatten(1).all(1)
    return finite.reshape(-1, *[1] * (x.ndim - 2))


def _count_pairs(bits: Tensor) -> Tensor:
    """Count the ones of each channel, and its pairs of ones at some distances; no shift changes it.

    Args:
        bits: Zeros and ones, shape `(batch, channels, *spatial)`.

    Returns:
        Shape `(batch, num_counts)`.
    """
    ones = bits.bool()
    counts = [ones.flatten(2).sum(2, dtype=torch.float32)]
    for axis in range(2, bits.ndim):
        steps = [step for step in _STEPS if 2 * step <= bits.shape[axis]]
        pairs = ((ones & ones.roll(step, axis)).flatten(2) for step in steps)
        counts += [pair.sum(2, dtype=torch.float32) for pair in pairs]
    return torch.cat(counts, 1)


def _duplicates(translates: Sequence[Translate]) -> set[int]:
    """Return the exact duplicates; reject images that are shifts of others or of themselves."""
    harmful = [found for found in translates if any(found.shift)]
    if harmful:
        named = [f"image {a} shifted by {shift} is image {b}" for a, b, shift in harmful[:3]]
        more = f" and {len(harmful) - 3} more" if len(harmful) > 3 else ""
        raise ValueError(
            f"Expected `images` to be aperiodic, so that each has one place, but "
            f"{', '.join(named)}{more}."
        )
    return {found.second for found in translates}
