"""An estimator of shifts for images of any size: local filters, sums along rows, profiles."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqrestore_lightning.functional import as_float64
from eqrestore_lightning.nn._base import register_estimator
from eqrestore_lightning.nn._integer import (
    IntegerConv2d,
    requantise_,
    round_through,
    row_sums,
    to_levels,
)
from eqrestore_lightning.nn._separable import SeparableShiftEstimator

_SMALLEST, _LARGEST = 8, 65_536  # pixels on each axis
# Pixels of the images scored at once: on a CPU so few that layers stay in the cache.
_PIXELS_AT_ONCE = {True: 2**16, False: 2**20}
# Entries of profiles and their weights are multiples of 2^-10, at most 2^13 and 8: every sum is
# one of multiples of 2^-20 below 2^33, exact in float64.
_UNIT = 2.0**-10
_LARGEST_ENTRY = 2.0**13
_LARGEST_WEIGHT = 8.0


@register_estimator
class ProfileEstimator(SeparableShiftEstimator):
    r"""Score every circular shift of an image of **any size**: the seam of the wrap-around shows.

    For each axis: local filters over four rows and five columns (4 × 3, then 1 × 3, then 1 × 1
    taps, ReLU after each), sums along whole rows, and two circular layers of five taps over the
    profile of rows. Columns are scored by the same network on the transposed image; the score of
    the shift `(i, j)` is the sum of those of row `i` and of column `j`. No weight depends on the
    size of the image, and the cost grows with the number of pixels.

    The profile also holds what simple rules look at: the sum along each row of the differences to
    the row before it, and the same relative to the rows beside it. Profiles are compressed by an
    eighth root, three square roots.

    Pixels are mapped to integers from 0 to 255 first, the least and the largest entry of a sample
    to the ends, so that neither range nor contrast matters. All filters are rounded in the forward
    pass, in training too, and activations are integers from 0 to 255: every sum is exact, hence
    bitwise the same for every shift, order of summation, batch, number of threads and memory
    format, in `forward` too up to the profile, which is float32 there.

    Convention:
        `scores[b, i, j]` is high where sample `b` looks as if shifted by `(i, j)`. Shifts are
        positive as in `torch.roll`.

    Args:
        in_channels: Channels of the images, at most 21.
        axes: The axes along which images may have been shifted, `(-2, -1)` by default; `(-1,)` if
            only along their width.
        channels: Channels of the first two local layers, at most 85.
        features: Channels of the third, whose sums along a row form the profile.
        profile_channels: Channels of the layers over the profile.

    Shapes:
        Input `(batch, in_channels, height, width)`, each axis from 8 to 65,536 pixels, floating;
        output `(batch, height, width)`, or one of both for one axis.

    Raises:
        ValueError: If a number is out of range, or `axes` are not spatial axes.

    >>> estimator = ProfileEstimator(3)
    >>> estimator(torch.zeros(2, 3, 24, 40)).shape
    torch.Size([2, 24, 40])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        axes: Sequence[int] | None = None,
        channels: int = 16,
        features: int = 24,
        profile_channels: int = 48,
    ) -> None:
        super().__init__(in_channels, axes=axes)
        sizes = {
            "channels": channels,
            "features": features,
            "profile_channels": profile_channels,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {size}.")
        self._config = {"in_channels": in_channels, "axes": list(self.axes), **sizes}
        self.local1 = IntegerConv2d(in_channels, channels, (4, 3))
        self.local2 = IntegerConv2d(channels, channels, (1, 3))
        self.local3 = IntegerConv2d(channels, features, (1, 1))
        self.profile1 = nn.Conv1d(features + 2, profile_channels, 5)
        self.profile2 = nn.Conv1d(profile_channels, profile_channels, 5)
        self.profile3 = nn.Conv1d(profile_channels, 1, 1)
        self.overall = nn.Linear(features + 2, profile_channels, bias=False)
        self.reset_parameters()

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        return dict(self._config)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights; the first filters have no mean, so that they see differences only."""
        for layer in (self.local1, self.local2, self.local3):
            layer.reset_parameters()
        for profile in (self.profile1, self.profile2, self.profile3):
            profile.reset_parameters()
        first = self.local1.weight
        first.normal_(0, 0.25)
        first.sub_(first.mean((1, 2, 3), keepdim=True))
        self.overall.weight.zero_()
        self.scale.fill_(1.0)

    def check_input(self, x: Tensor) -> None:
        """Raise `ValueError` unless `x` holds images of `in_channels`, neither small nor huge."""
        super().check_input(x)
        if min(x.shape[2:]) < _SMALLEST or max(x.shape[2:]) > _LARGEST:
            raise ValueError(
                f"Expected images of {_SMALLEST} to {_LARGEST} pixels on each axis, "
                f"but got {tuple(x.shape[2:])}."
            )

    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        """Score every shift.

        If `exact`, the profiles are float64. Every sum is then one of integers, exact in any order;
        the other operations (differences, quotients, square roots, rounding) are those that IEEE
        754 defines to the last bit, and see single entries.
        """
        if not exact:
            return self.score_axes(x, torch.promote_types(x.dtype, torch.float32)).to(x.dtype)
        at_once = max(1, _PIXELS_AT_ONCE[x.is_cpu] // math.prod(x.shape[2:]))
        if torch.compiler.is_compiling() or x.shape[0] <= at_once:
            return self.score_axes(x, torch.float64)
        return torch.cat([self.score_axes(part, torch.float64) for part in torch.split(x, at_once)])

    def prepare(self, x: Tensor) -> Tensor:
        """Map pixels to integers from 0 to 255."""
        return to_levels(x)

    def score_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Score rows of images of integers."""
        profile = self._profile(x, dtype)
        mean = _rounded(profile.sum(2) / profile.shape[2])
        overall = F.linear(mean, _weight(self.overall.weight, dtype))
        y = _circular_conv1d(profile, self.profile1, dtype) + overall.unsqueeze(2)
        y = _circular_conv1d(_rounded(y.relu()), self.profile2, dtype)
        return _circular_conv1d(_rounded(y.relu()), self.profile3, dtype).squeeze(1)

    def _profile(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what is known of each row: `(batch, features + 2, rows)`."""
        width = x.shape[3]
        y = F.pad(x, (2, 2, 2, 1), mode="circular").contiguous(memory_format=torch.channels_last)
        for layer in (self.local1, self.local2, self.local3):
            y = requantise_(layer(y))
        means = _convert(row_sums(y), dtype) / width
        steps = _convert((x - x.roll(1, 2)).abs().sum(3), dtype).sum(1, keepdim=True)
        steps = steps / (width * x.shape[1])
        relative = 8 * steps / (steps.roll(1, 2) + steps.roll(-1, 2) + 2**-4)
        compressed = torch.cat([means, steps, relative], 1) + 2**-6
        return _rounded(compressed.sqrt().sqrt().sqrt() * 4 - 4)


def _convert(x: Tensor, dtype: torch.dtype) -> Tensor:
    return as_float64(x) if dtype == torch.float64 else x.to(dtype)


def _rounded(x: Tensor) -> Tensor:
    return round_through(x, _UNIT, _LARGEST_ENTRY)


def _weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return _convert(round_through(weight, _UNIT, _LARGEST_WEIGHT), dtype)


def _circular_conv1d(x: Tensor, layer: nn.Conv1d, dtype: torch.dtype) -> Tensor:
    """Convolve by a matrix product: no algorithm but plain sums."""
    weight = _weight(layer.weight, dtype)
    taps = weight.shape[2]
    padded = F.pad(x, (taps // 2, taps // 2), mode="circular") if taps > 1 else x
    columns = padded.unfold(2, taps, 1).permute(0, 1, 3, 2).flatten(1, 2)
    y = torch.matmul(weight.flatten(1), columns)
    return y if layer.bias is None else y + _weight(layer.bias, dtype).unsqueeze(1)
