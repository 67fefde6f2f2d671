"""An estimator that looks at turned copies of an image with any network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.motions import Motion, QuarterTurn
from eqrestore_lightning.nn._base import register_estimator
from eqrestore_lightning.nn._grids import QuarterGrid
from eqrestore_lightning.nn._integer import LEVELS, to_levels
from eqrestore_lightning.nn._scorers import build_scorer
from eqrestore_lightning.nn._turned_copies import (
    TurnedCopies,
    central_square,
    evaluating,
    inscribed_disc,
)


@register_estimator
class CopiesEstimator(TurnedCopies):
    r"""Score turns by a network of one's own that looks at the four quarter turns of an image.

    The network scores all turns of one copy; the scores of the copies are aligned and averaged,
    `S[g] = mean over h of s(h⁻¹ x)[h⁻¹ g]`. All quarter turns of an image, and its mirror images
    with `QuarterTurn(mirrors=True)`, are restored to the same image, **bit for bit**, whatever the
    network, as long as it computes the same from the same batch. Other angles interpolate pixels,
    so their estimates are approximate.

    Contrast is stretched to 0…1 and images are reduced so that their shorter side has `resolution`
    pixels, by averages that turn along bit for bit; then the network sees them at once, whatever
    their size. Gradients reach the network but not the image.

    Convention:
        `scores[b, j]` is high where image `b` looks as if turned by `360° · j / num_angles`,
        counter-clockwise as displayed; with mirror images, `scores[b, 4 + j]` where it looks as if
        mirrored left to right, then turned so.

    Args:
        in_channels: Channels of the images.
        motion: What is found and undone: a `QuarterTurn`, or a `Turn` by any angle, for which only
            what lies in the inscribed circle is looked at, so that corners cannot tell it; or the
            `config` of one.
        num_angles: Number of angles scored, a multiple of 4; 4 for quarter turns.
        resolution: Shorter side to which larger images are reduced, pixels.
        sub_grid: Whether to interpolate between the angles of the grid, for a `Turn`.
        scorer: Name of the network, see `build_scorer`.
        scorer_options: Further arguments of the network.

    Shapes:
        Input `(batch, in_channels, height, width)` of 16 to 16,384 pixels on each axis, of any real
        dtype; output `(batch, num_angles)`, with mirror images `(batch, 8)`.

    Attributes:
        scorer: The network. In training mode it sees the image as it comes, and no copies.

    Raises:
        ValueError: If a number is out of range, or there is no such network.

    Source: Frame averaging over a finite group (Puny et al., 2022), and own.

    >>> estimator = CopiesEstimator(3).eval()
    >>> x = torch.rand(1, 3, 40, 48)
    >>> first, second = (
    ...     estimator.motion.undo(y, estimator.estimate(y)) for y in (x, x.rot90(1, (2, 3)))
    ... )
    >>> torch.equal(first, second)
    True
    """

    side_range = 16, 2**14

    def __init__(
        self,
        in_channels: int,
        *,
        motion: Motion | Mapping[str, Any] = QuarterTurn(),  # noqa: B008  # it is frozen
        num_angles: int = 4,
        resolution: int = 64,
        sub_grid: bool = True,
        scorer: str = "ResidualScorer",
        scorer_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, motion, num_angles=num_angles, sub_grid=sub_grid)
        if not 16 <= resolution <= 256:
            raise ValueError(f"Expected `resolution` to be from 16 to 256, but got {resolution}.")
        self.resolution = resolution
        self._scorer = (scorer, dict(scorer_options or {}))
        self.scorer: nn.Module = build_scorer(
            scorer, in_channels, len(self.turns), **self._scorer[1]
        )

    @property
    @override
    def config(self) -> dict[str, Any]:
        scorer, options = self._scorer
        return {
            "in_channels": self.in_channels,
            "motion": self.motion.config,
            "num_angles": self.num_angles,
            "resolution": self.resolution,
            "sub_grid": self.sub_grid,
            "scorer": scorer,
            "scorer_options": options,
        }

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        if self.training and not exact:
            return (self.scale * self._look(self.prepare(x.detach()))).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            scores = self.aligned(x, self._average) * as_float64(self.scale)
        return scores if exact else scores.to(x.device, x.dtype)

    @override
    def prepare(self, x: Tensor) -> Tensor:
        if isinstance(self.grid, QuarterGrid):
            return _shrunk(to_levels(x), self.resolution)
        square = central_square(x)
        disc = inscribed_disc(square)
        inside = torch.where(disc, square, square.amax((1, 2, 3), keepdim=True))
        least = inside.amin((1, 2, 3), keepdim=True)
        small = _shrunk(to_levels(torch.where(disc, square, least)), self.resolution)
        return torch.where(inscribed_disc(small), small, LEVELS // 2)

    def _average(self, first: Tensor) -> Tensor:
        """Score all turns of first copies by all their quarter turns."""
        total = as_float64(first.new_zeros(first.shape[0], len(self.turns)))
        with evaluating(self.scorer):
            for mirrored, turn in self.quarter_turns:
                seen = as_float64(self._look(self.copy(first, mirrored=mirrored, turn=turn)))
                total = total + seen[:, self.relative(mirrored=mirrored, turn=turn)]
        return total / len(self.quarter_turns)

    def _look(self, prepared: Tensor) -> Tensor:
        scores: Tensor = self.scorer(prepared / LEVELS)
        if tuple(scores.shape[1:]) != (len(self.turns),):
            raise ValueError(
                f"Expected the scorer to return scores of shape "
                f"{(prepared.shape[0], len(self.turns))}, but got {tuple(scores.shape)}."
            )
        return scores


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
