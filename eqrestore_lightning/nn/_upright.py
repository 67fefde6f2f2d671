"""An estimator that looks at turned copies of a photograph with any network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqrestore_lightning.functional import (
    Fill,
    as_float64,
    content_hash,
    hash_weights,
    rotate,
)
from eqrestore_lightning.motions import Element, Motion, QuarterTurn, Turn
from eqrestore_lightning.nn._angles import angle_at, angle_margin, angle_target, without_peak
from eqrestore_lightning.nn._base import (
    Estimator,
    check_factor,
    check_sides,
    register_estimator,
    split_batch,
)
from eqrestore_lightning.nn._integer import LEVELS, to_levels
from eqrestore_lightning.nn._scorers import build_scorer

_SMALLEST, _LARGEST = 16, 2**14  # pixels
_AT_ONCE = 2**22  # pixels that are reduced in one go
_QUARTERS = 4


@register_estimator
class UprightEstimator(Estimator):
    r"""Score by how much a photograph may have been turned, by looking at turned copies of it.

    Any network scores the turns of one copy; the scores of all copies are aligned and averaged,
    `S[g] = mean over h of s(h⁻¹ x)[h⁻¹ g]`. The first copy is not the image as it comes but the
    quarter turn of it that a fixed rule on its content picks, the others are turned copies of that
    one: the network sees the same copies in whichever of the four ways an image lies. All four are
    therefore restored to the same image, **bit for bit**, however many copies are looked at, and
    whatever the network, as long as it computes the same from the same batch. Other angles
    interpolate pixels, so their estimates are approximate.

    Contrast is stretched to 0…1 and images are reduced so that their shorter side has `resolution`
    pixels, by averages that turn along bit for bit; then the network sees them at once, whatever
    their size. Gradients reach the network but not the image.

    Convention:
        `scores[b, j]` is high where image `b` looks as if turned by `360° · j / num_angles`,
        counter-clockwise as displayed; with `mirrors`, `scores[b, num_angles + j]` where it looks
        as if mirrored left to right, then turned so.

    Args:
        in_channels: Channels of the images.
        num_angles: Number of angles scored, a multiple of 4. If 4, quarter turns are found and
            undone (`QuarterTurn`), else any angle (`Turn`), of which only what lies in the
            inscribed circle is looked at, so that corners cannot tell it.
        num_copies: How many turned copies are looked at, a divisor of `num_angles`; time grows in
            proportion. In training mode it is one, the image as it comes.
        mirrors: Whether images may have been mirrored as well, for quarter turns only. Mirrored
            copies are looked at too.
        resolution: Shorter side to which larger images are reduced, pixels.
        sub_grid: Whether to interpolate between the angles of the grid.
        fill: What enters at the corners of a restored image, see `rotate`; for any angle only.
        scorer: Name of the network, see `register_scorer`.
        scorer_options: Further arguments of the network.

    Shapes:
        Input `(batch, in_channels, height, width)` of 16 to 16,384 pixels on each axis, of any real
        dtype; output `(batch, num_angles)`, with `mirrors` `(batch, 2 · num_angles)`. Quarter turns
        of images that are not square are found, but a batch of them cannot be turned.

    Attributes:
        scorer: The network.

    Raises:
        ValueError: If a number is out of range, or there is no such network.

    Source: Frame averaging over a finite group (Puny et al., 2022), and own.

    >>> estimator = UprightEstimator(3).eval()
    >>> x = torch.rand(1, 3, 40, 40)
    >>> first, second = (
    ...     estimator.motion.undo(y, estimator.estimate(y)) for y in (x, x.rot90(1, (2, 3)))
    ... )
    >>> torch.equal(first, second)
    True
    """

    spatial_size = None
    scale: Tensor

    def __init__(
        self,
        in_channels: int,
        *,
        num_angles: int = 4,
        num_copies: int = 4,
        mirrors: bool = False,
        resolution: int = 64,
        sub_grid: bool = True,
        fill: Fill = "zeros",
        scorer: str = "ResidualScorer",
        scorer_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"Expected `in_channels` to be at least 1, but got {in_channels}.")
        if num_angles < 4 or num_angles % 4:
            raise ValueError(f"Expected `num_angles` to be a multiple of 4, but got {num_angles}.")
        if num_copies < 1 or num_angles % num_copies:
            raise ValueError(
                f"Expected `num_copies` to divide `num_angles` = {num_angles}, "
                f"but got {num_copies}."
            )
        if mirrors and num_angles != _QUARTERS:
            raise ValueError(
                f"Expected `mirrors` for quarter turns only, `num_angles` = 4, "
                f"but got {num_angles} angles."
            )
        if not _SMALLEST <= resolution <= 256:
            raise ValueError(
                f"Expected `resolution` to be from {_SMALLEST} to 256, but got {resolution}."
            )
        Turn(fill=fill)  # raises if `fill` is unknown
        self.in_channels = in_channels
        self.num_angles = num_angles
        self.num_copies = num_copies
        self.mirrors = mirrors
        self.resolution = resolution
        self.sub_grid = sub_grid
        self.fill: Fill = fill
        self._scorer = (scorer, dict(scorer_options or {}))
        self.scorer: nn.Module = build_scorer(
            scorer, in_channels, num_angles * (1 + mirrors), **self._scorer[1]
        )
        self.register_buffer("scale", torch.ones(()))

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        scorer, options = self._scorer
        return {
            "in_channels": self.in_channels,
            "num_angles": self.num_angles,
            "num_copies": self.num_copies,
            "mirrors": self.mirrors,
            "resolution": self.resolution,
            "sub_grid": self.sub_grid,
            "fill": self.fill,
            "scorer": scorer,
            "scorer_options": options,
        }

    @property
    def motion(self) -> Motion:
        """Quarter turns, with mirror images if they are found, or turns by any angle."""
        if self.num_angles == _QUARTERS:
            return QuarterTurn(self.mirrors)
        return Turn(fill=self.fill)

    def check_input(self, x: Tensor) -> None:
        """Raise `ValueError` unless `x` holds images of `in_channels`, neither small nor huge."""
        super().check_input(x)
        check_sides(x, _SMALLEST, _LARGEST)

    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        """Score every turn; in training mode, unless `exact`, by the image as it comes alone."""
        if self.training and not exact:
            return (self.scale * self._look(self._reduced(x))).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False), _evaluating(self.scorer):
            reduced = self._reduced(x)
            first = self._first(x)
            base = self._base(reduced, first)
            total = as_float64(reduced.new_zeros(x.shape[0], self._num_scores))
            for mirrored, copy in self._elements(self.num_copies):
                place = copy * (self.num_angles // self.num_copies)
                seen = as_float64(self._look(_undone(base, mirrored, copy, self.num_copies)))
                total += seen[:, self._relative(mirrored, place)]
            copies = self.num_copies * (1 + self.mirrors)
            scores = as_float64(self.scale) * total / copies
            moved = scores.gather(1, self._relative_to(first).to(scores.device))
        return moved if exact else moved.to(x.dtype)

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        """Return the turn with the largest score; of equal ones, the choice follows the image.

        Args:
            scores: What `exact_scores(x)` returned.
            x: The images scored.

        Returns:
            For quarter turns `quarters`, int64 of shape `(batch,)`, and `mirrored` with `mirrors`;
            else `angle`, degrees, float64 of shape `(batch,)`, from −180 to below 180 (float32 on
            Apple's MPS). No motion for images with entries that are not finite.
        """
        first = self._first(x).to(scores.device)
        first = torch.where(scores[:, 0].isnan(), 0, first)  # images that are not finite
        back = self._relative_to(first).argsort(1)
        best = scores.gather(1, back).argmax(1)  # in the frame that does not depend on the turn
        place = back.gather(1, best.unsqueeze(1)).squeeze(1)
        if self.num_angles == _QUARTERS:
            return QuarterTurn(self.mirrors).from_index(place.to(x.device))
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        angle = angle_at(scores, place, sub_grid=self.sub_grid)
        return {"angle": angle.to(x.device, dtype)}

    def margin(self, scores: Tensor) -> Tensor:
        """Compute how far the best turn is ahead of its best rival, at least 30° away: log-odds."""
        if self.num_angles == _QUARTERS:
            return super().margin(scores)
        return angle_margin(scores)

    def without_best(self, scores: Tensor) -> Tensor:
        """Exclude the best angle, and those that lie nearer to it than 30°; see `Estimator`."""
        if self.num_angles == _QUARTERS:
            return super().without_best(scores)
        return without_peak(scores)

    def loss(self, scores: Tensor, element: Element) -> Tensor:
        """Compute the cross-entropy; an angle between two of the grid belongs to both."""
        if self.num_angles == _QUARTERS:
            return F.cross_entropy(scores, QuarterTurn(self.mirrors).to_index(element))
        return F.cross_entropy(scores, angle_target(element["angle"], self.num_angles))

    @torch.no_grad()
    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a positive factor, in place: margins change, estimates do not."""
        check_factor(factor)
        self.scale.mul_(factor)

    @property
    def _num_scores(self) -> int:
        return self.num_angles * (1 + self.mirrors)

    def _elements(self, count: int) -> list[tuple[int, int]]:
        """Return the elements of the group, as whether mirrored and the number of the turn."""
        return [(mirrored, turn) for mirrored in range(1 + self.mirrors) for turn in range(count)]

    def _relative(self, mirrored: int, place: int) -> list[int]:
        """Return, for every element g, the index of `h⁻¹ g`, where h is `(mirrored, place)`."""
        sign = -1 if mirrored else 1
        return [
            (mirrored ^ other) * self.num_angles + sign * (turn - place) % self.num_angles
            for other, turn in self._elements(self.num_angles)
        ]

    def _relative_to(self, first: Tensor) -> Tensor:
        """Return the rows of `_relative` for the first copies, int64 `(batch, scores)`."""
        step = self.num_angles // _QUARTERS
        rows = [self._relative(m, quarters * step) for m, quarters in self._elements(_QUARTERS)]
        return torch.tensor(rows, device=first.device)[first]

    def _look(self, reduced: Tensor) -> Tensor:
        scores: Tensor = self.scorer(reduced / LEVELS)
        if tuple(scores.shape[1:]) != (self._num_scores,):
            raise ValueError(
                f"Expected the scorer to return scores of shape "
                f"{(len(reduced), self._num_scores)}, but got {tuple(scores.shape)}."
            )
        return scores

    def _reduced(self, x: Tensor) -> Tensor:
        """Return what the network sees: integers from 0 to 255, float32."""
        parts = []
        for part in split_batch(x.detach(), _AT_ONCE):
            if self.num_angles == _QUARTERS:
                parts.append(_shrunk(to_levels(part), self.resolution))
                continue
            square = _central_square(part)
            disc = _disc(square)
            inside = torch.where(disc, square, square.amax((1, 2, 3), keepdim=True))
            least = inside.amin((1, 2, 3), keepdim=True)
            small = _shrunk(to_levels(torch.where(disc, square, least)), self.resolution)
            parts.append(torch.where(_disc(small), small, LEVELS // 2))
        return torch.cat(parts)

    def _base(self, x: Tensor, first: Tensor) -> Tensor:
        """Return the first copies, all of one shape."""
        copies = [_undone(x, m, quarters, _QUARTERS) for m, quarters in self._elements(_QUARTERS)]
        fitting = [index for index, y in enumerate(copies) if y.shape[2] >= y.shape[3]]
        base = copies[fitting[0]]
        for index in fitting[1:]:
            chosen = (first.to(x.device) == index).reshape(-1, 1, 1, 1)
            base = torch.where(chosen, copies[index], base)
        return base

    def _first(self, x: Tensor) -> Tensor:
        """Return which quarter turn of each image, undone, is the first copy, by its content.

        It is one of those that are not wider than high, so that copies have one shape.
        """
        square = x.detach() if self.num_angles == _QUARTERS else _central_square(x.detach())
        sums, chosen = [], []
        for index, (mirrored, quarters) in enumerate(self._elements(_QUARTERS)):
            size = _undone(square[:1], mirrored, quarters, _QUARTERS).shape[1:]
            if size[1] >= size[2]:  # weights are moved, which saves moving all images
                weights = hash_weights(size, device=x.device).unsqueeze(0)
                weights = weights.flip(3) if mirrored else weights
                sums.append(content_hash(square, torch.rot90(weights, quarters, (2, 3))))
                chosen.append(index)
        best = torch.stack(sums, 1).argmax(1)  # equal sums are those of equal copies
        return torch.tensor(chosen, device=best.device)[best]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Keep a network in eval mode, so that images do not depend on others of their batch."""
    training = [each for each in module.modules() if each.training]
    module.eval()
    try:
        yield
    finally:
        for each in training:
            each.training = True


def _undone(x: Tensor, mirrored: int, turn: int, count: int) -> Tensor:
    """Undo a mirror image and a turn by `turn` of `count` parts of a circle."""
    quarters, rest = divmod(turn * _QUARTERS, count)
    y = torch.rot90(x, -quarters, (2, 3))
    if rest:
        y = rotate(y, y.new_full((y.shape[0],), -rest * 90 / count))
        y = torch.where(_disc(y), y, LEVELS // 2)
    return y.flip(3) if mirrored else y


def _central_square(x: Tensor) -> Tensor:
    size = min(x.shape[2:])
    top, left = ((side - size) // 2 for side in x.shape[2:])
    return x[:, :, top : top + size, left : left + size]


def _disc(x: Tensor) -> Tensor:
    """Return which pixels of a square lie in the largest circle of pixel centers, bool."""
    size = x.shape[3]
    twice = (2 * torch.arange(size, device=x.device) - (size - 1)) ** 2
    return twice.unsqueeze(1) + twice <= (size - 1) ** 2


def _shrunk(x: Tensor, resolution: int) -> Tensor:
    """Average integers from 0 to 255 over windows, so that the shorter side has `resolution`.

    All sums are integers below 2^24 and windows lie symmetrically: turning or mirroring the images
    turns or mirrors the result bit for bit.
    """
    short = min(x.shape[2:])
    if short <= resolution:
        return x
    sizes = [round(side * resolution / short) for side in x.shape[2:]]
    down, right = (
        _windows(before, after, x) for before, after in zip(x.shape[2:], sizes, strict=True)
    )
    sums = down @ x @ right.T
    return (sums / (down.sum(1, keepdim=True) * right.sum(1))).round()


def _windows(before: int, after: int, like: Tensor) -> Tensor:
    """Return the windows of `adaptive_avg_pool` as rows of zeros and ones."""
    places = torch.arange(before, device=like.device)
    index = torch.arange(after, device=like.device).unsqueeze(1)
    start, end = index * before // after, -(-(index + 1) * before // after)
    return ((places >= start) & (places < end)).to(like.dtype)
