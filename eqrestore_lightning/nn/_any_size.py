"""An estimator of shifts for images of any size: every row is measured, a few are looked at."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.functional._traced import is_traced
from eqrestore_lightning.nn._base import register_estimator, split_batch
from eqrestore_lightning.nn._integer import (
    IntegerConv2d,
    relu_to_levels_,
    round_through,
    row_sums,
    to_levels,
)
from eqrestore_lightning.nn._separable import SeparableShiftEstimator

# Entries of profiles and their weights are multiples of 2^-10, at most 2^13 and 8: every sum is
# one of multiples of 2^-20 below 2^33, exact in float64.
_UNIT = 2.0**-10
_LARGEST_ENTRY = 2.0**13
_LARGEST_WEIGHT = 8.0
_STATISTICS = 12  # of each row, see `_row_statistics`
_LARGEST_DIFFERENCE = 4 * 255  # a third one
_ROWS = 6  # that the filters see at once: three on either side of a seam
_MOST_ROWS = 512  # times candidates: small images are cheap, and tell less
_IN_CACHE = 2**16  # pixels measured at once
_AHEAD = 16.0  # how far rows that were looked at closely are ahead of others
_LEAST_BLANK = 8  # equal rows that are taken for a background
_BACKGROUND = 25.0  # how far its middle is ahead of the less likely of its ends


@register_estimator
class ProfileEstimator(SeparableShiftEstimator):
    r"""Score every circular shift of an image of **any size**: the seam of the wrap-around shows.

    Each axis by itself, first the rows:

    1. **Propose.** Twelve numbers are measured of every row: sums of differences to the row before
       it, of second and third differences, some of them cut off so that edges count less, and what
       they are relative to the rows beside. A circular network of two layers of five taps scores
       this profile, and the best `candidates` rows are kept.
    2. **Verify.** Local filters (6 rows × 3 columns, then 1 × 3, then 1 × 1, ReLU after each) look
       at the six rows around each candidate; their sums along the row, the means of these over all
       candidates, and what the profile tells of the row, decide.

    3. **Center.** Where eight or more neighboring rows are equal, as in front of a plain background
       or in a frame, no seam shows, and the edges of what lies there look like one. The middle of
       the longest such stretch is then ahead of the less likely of its two ends by 25, unless in
       training: an object is restored to the center, and a row that clearly is a seam stays ahead.
       A blank stripe along one side only cannot be told from a frame, and is cut in the middle.

    Columns are scored by the same network on the transposed image; the score of the shift `(i, j)`
    is the sum of those of row `i` and of column `j`. No weight depends on the size of the image,
    and the cost of the filters grows only with the length of a row and of a column.

    Rows are candidates if their score is above that of the next one in order: which rows are, and
    how many, does not depend on where the image begins, also where scores are equal.

    Pixels are mapped to integers from 0 to 255 first, the least and the largest entry of a sample
    to the ends, so that neither range nor contrast matters. All filters are rounded in the forward
    pass, in training too, and activations are integers from 0 to 255: every sum is exact, hence
    bitwise the same for every shift, order of summation, batch, number of threads and memory
    format, in `forward` too except for the profile, which is float32 there.

    Convention:
        `scores[b, i, j]` is high where sample `b` looks as if shifted by `(i, j)`. Shifts are
        positive as in `torch.roll`.

    Args:
        in_channels: Channels of the images, at most 14.
        axes: The axes along which images may have been shifted, `(-2, -1)` by default; `(-1,)` if
            only along their width.
        candidates: Least number of rows, and of columns, that are looked at closely; in small
            images, 512 divided by the number of rows, if that is more.
        channels: Channels of the first two layers of filters, at most 85.
        features: Channels of the third.
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

    side_range = 8, 65_536

    def __init__(
        self,
        in_channels: int,
        *,
        axes: Sequence[int] | None = None,
        candidates: int = 4,
        channels: int = 32,
        features: int = 48,
        profile_channels: int = 32,
    ) -> None:
        super().__init__(in_channels, axes=axes)
        sizes = {
            "candidates": candidates,
            "channels": channels,
            "features": features,
            "profile_channels": profile_channels,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {size}.")
        self._config = {"in_channels": in_channels, "axes": list(self.axes), **sizes}
        self.candidates = candidates
        self.profile1 = nn.Conv1d(_STATISTICS, profile_channels, 5)
        self.profile2 = nn.Conv1d(profile_channels, profile_channels, 5)
        self.profile3 = nn.Conv1d(profile_channels, 1, 1)
        self.overall = nn.Linear(_STATISTICS, profile_channels, bias=False)
        self.local1 = IntegerConv2d(in_channels, channels, (_ROWS, 3))
        self.local2 = IntegerConv2d(channels, channels, (1, 3))
        self.local3 = IntegerConv2d(channels, features, (1, 1))
        self.seam1 = nn.Conv1d(2 * features + profile_channels, 2 * profile_channels, 1)
        self.seam2 = nn.Conv1d(2 * profile_channels, 1, 1)
        self.reset_parameters()

    @property
    @override
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights; the first filters have no mean, so that they see differences only."""
        for layer in (self.local1, self.local2, self.local3):
            layer.reset_parameters()
        for profile in (self.profile1, self.profile2, self.profile3, self.seam1, self.seam2):
            profile.reset_parameters()
        first = self.local1.weight
        first.normal_(0, 0.25)
        first.sub_(first.mean((1, 2, 3), keepdim=True))
        self.overall.weight.zero_()
        self.scale.fill_(1.0)

    @override
    def prepare(self, x: Tensor) -> Tensor:
        return to_levels(x)

    @override
    def score_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        # In float64 every sum is one of integers, exact in any order; the other operations
        # (differences, quotients, square roots, rounding) are those that IEEE 754 defines to the
        # last bit, and see single entries.
        rows = x.movedim(1, 3).contiguous()  # channels innermost
        hidden, proposed, blank = self._propose(rows, dtype)
        count = max(self.candidates, _MOST_ROWS // x.shape[2])
        places, chosen = _best(proposed.detach(), count)
        context = hidden.gather(2, places.unsqueeze(1).expand(-1, hidden.shape[1], -1))
        sums = self._sum_features(rows, places.to(rows.device)).transpose(1, 2)
        features = _eighth_root(_convert(sums, dtype) / x.shape[3])
        weight = chosen.unsqueeze(1).to(dtype)
        total = (features * weight).sum(2, keepdim=True)
        mean = _rounded(total / weight.sum(2, keepdim=True).clamp(min=1))
        y = torch.cat([features, mean.expand_as(features), context], 1)
        y = _circular_conv1d(_rounded(_circular_conv1d(y, self.seam1).relu()), self.seam2)
        verified = torch.where(chosen, y.squeeze(1) + _AHEAD, 0)
        scores = proposed.scatter_add(1, places, verified)
        some = is_traced(scores) or bool(blank.any())  # graphs depend on no values
        return _center_blank(scores, blank) if some and not self.training else scores

    def _propose(self, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return features `(batch, channels, rows)`, scores, and which rows are as the one before.

        All of them are what the profile tells of each row.
        """
        parts = split_batch(rows.permute(0, 3, 1, 2), _IN_CACHE)
        statistics = torch.cat([_row_statistics(part) for part in parts])
        profile = _eighth_root(_convert(statistics, dtype))
        mean = _rounded(profile.sum(2) / profile.shape[2])
        overall = F.linear(mean, _weight(self.overall.weight, dtype)).unsqueeze(2)
        y = _rounded((_circular_conv1d(profile, self.profile1) + overall).relu())
        y = _rounded(_circular_conv1d(y, self.profile2).relu())
        return y, _circular_conv1d(y, self.profile3).squeeze(1), statistics[:, 0] == 0

    def _sum_features(self, rows: Tensor, places: Tensor) -> Tensor:
        """Sum what the filters see along each candidate: `(batch, candidates, features)`."""
        batch, height, width, channels = rows.shape
        around = torch.arange(-_ROWS // 2, _ROWS // 2, device=rows.device)
        first = height * torch.arange(batch, device=rows.device).reshape(-1, 1, 1)
        index = (places.unsqueeze(2) + around) % height + first
        y = rows.flatten(2).flatten(0, 1)[index.flatten()]
        y = torch.cat([y[:, -2 * channels :], y, y[:, : 2 * channels]], 1)
        y = y.reshape(index.numel() // _ROWS, _ROWS, width + 4, channels).permute(0, 3, 1, 2)
        for layer in (self.local1, self.local2, self.local3):
            y = relu_to_levels_(layer(y))
        return row_sums(y).reshape(*places.shape, len(self.local3.bias))


def _row_statistics(x: Tensor) -> Tensor:
    """Measure the seam before each row: `(batch, statistics, rows)`.

    Sums are of integers up to 1,020, exact; everything else depends on single entries only.
    """
    flat = x.permute(0, 2, 3, 1).flatten(2)
    exact_in_float32 = flat.shape[2] * _LARGEST_DIFFERENCE <= 2**24
    y = torch.cat([flat[:, -3:], flat, flat[:, :2]], 1)  # from row -3 to row `height + 1`

    def mean(sizes: Tensor) -> Tensor:
        return (sizes if exact_in_float32 else as_float64(sizes)).sum(2) / sizes.shape[2]

    def beside(sizes: Tensor) -> Tensor:
        return sizes[:, 1:-3] + sizes[:, 3:-1] + 2**-4  # one row before and one after

    first = y[:, 1:] - y[:, :-1]  # differences to the row before, from row -2 on
    second = first[:, 1:] - first[:, :-1]  # from row -1 on
    third = (second[:, 2:-1] - second[:, 1:-2]).abs_()  # from row 0 on
    across = mean((y[:, 3:-2] - y[:, 1:-4]).abs_())  # from the row before to the row after it
    steps = first.abs_()
    mean_steps = [mean(steps), mean(steps.clamp_max(24)), mean(steps.clamp_max(6))]
    mean_third, mean_third_cut = mean(third), mean(third.clamp_max(16))
    near = beside(mean_steps[0])
    near_and_far = near + mean_steps[0][:, :-4] + mean_steps[0][:, 4:]
    statistics = [step[:, 2:-2] for step in mean_steps]
    statistics += [mean_third, mean_third_cut, mean(second[:, 1:-2].abs_()), across]
    statistics += [8 * step[:, 2:-2] / beside(step) for step in mean_steps]
    statistics += [8 * mean_third / near_and_far, 8 * mean_third_cut / near]
    return torch.stack(statistics, 1)


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the places of the largest scores, and which of them are above all others."""
    count = min(count, scores.shape[1] - 1)
    best, places = scores.topk(count + 1, 1)
    return places[:, :-1], best[:, :-1] > best[:, -1:]


def _center_blank(scores: Tensor, same: Tensor) -> Tensor:
    """Score the middle of the longest stretch of equal rows above the less likely of its ends.

    Both of shape `(batch, rows)`; `same` says which rows are equal to the one before.
    """
    rows = same.shape[1]
    place = torch.arange(rows, device=same.device)
    twice = torch.cat([same, same], 1)
    changes = (~twice).long().cumsum(1)
    # Where the first, second … change is, in two rounds; the last entry takes all other rows.
    index = torch.where(twice, 2 * rows + 1, changes)
    where = changes.new_zeros(same.shape[0], 2 * rows + 2)  # `len` would fix it in graphs
    where = where.scatter(1, index, torch.cat([place, place + rows]).expand_as(index))
    before = place + rows - where.gather(1, changes[:, rows:])  # distances to the last change
    after = where.gather(1, changes[:, :rows] + 1) - place  # and to the next one
    length = torch.where(same, before + after - 1, 0)
    length = torch.where(length < rows, length, 0)  # where all rows are equal, any is as good
    longest = (length >= _LEAST_BLANK) & (length == length.amax(1, keepdim=True))
    middle = longest & ((before == after) | (before == after + 1))
    ends = [scores.gather(1, end % rows) for end in (place + rows - before, place + after)]
    return torch.where(middle, torch.minimum(*ends) + _BACKGROUND, scores)


def _convert(x: Tensor, dtype: torch.dtype) -> Tensor:
    return as_float64(x) if dtype == torch.float64 else x.to(dtype)


def _eighth_root(x: Tensor) -> Tensor:
    """Compress numbers, so that small ones count too."""
    return _rounded((x + 2**-6).sqrt().sqrt().sqrt() * 4 - 4)


def _rounded(x: Tensor) -> Tensor:
    return round_through(x, _UNIT, _LARGEST_ENTRY)


def _weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return _convert(round_through(weight, _UNIT, _LARGEST_WEIGHT), dtype)


def _circular_conv1d(x: Tensor, layer: nn.Conv1d) -> Tensor:
    """Convolve by a matrix product for all taps, whose results are shifted and added."""
    weight = _weight(layer.weight, x.dtype)
    outputs, _, taps = weight.shape
    products = torch.matmul(weight.permute(2, 0, 1).flatten(0, 1), x)
    y, *others = torch.split(products, outputs, 1)
    if others:
        y = y.roll(taps // 2, 2)
    for tap, other in enumerate(others, 1):
        y = y + other.roll(taps // 2 - tap, 2)
    return y if layer.bias is None else y + _weight(layer.bias, x.dtype).unsqueeze(1)
