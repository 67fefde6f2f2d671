"""Plain networks that tell by how much an image seems to have been turned."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.functional._traced import is_traced

Scorer: TypeAlias = Callable[..., nn.Module]
_SCORERS: Registry[Scorer] = Registry("a scorer", "scorer")

register_scorer = _SCORERS.register


def build_scorer(name: str, in_channels: int, num_scores: int, **options: Any) -> nn.Module:
    """Build a network that scores turns, with fresh weights.

    Networks are added with `@register_scorer`: module classes, or functions that return a module,
    called with `in_channels`, `num_scores` and further options of plain JSON types. The module maps
    images of shape `(batch, in_channels, height, width)`, float32 from 0 to 1, to
    `(batch, num_scores)`.
    """
    return _SCORERS.find(name)(in_channels, num_scores, **options)


@register_scorer
class ResidualScorer(nn.Module):
    """Score turns by a small residual network with a mean over all places at its end.

    Args:
        in_channels: Channels of the images.
        num_scores: Number of scores.
        channels: Channels at a half, a quarter and an eighth of the resolution; one residual block
            each, and one more for every further number, which halves the resolution again.
    """

    def __init__(
        self, in_channels: int, num_scores: int, *, channels: Sequence[int] = (32, 64, 128)
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(
                f"Expected `channels` to be numbers of at least 1, but got {tuple(channels)}."
            )
        layers: list[nn.Module] = []
        before = in_channels
        for index, number in enumerate(channels):
            layers += [_Halve(before, number, 4 if index == 0 else 3), _Block(number)]
            before = number
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before, num_scores)

    def forward(self, x: Tensor) -> Tensor:
        """Score every image."""
        if not is_traced(x):  # half the time on a CPU; vmap does not know it
            x = x.contiguous(memory_format=torch.channels_last)
        y: Tensor = self.layers((x - 0.45) * 4)
        scores: Tensor = self.head(y.mean((2, 3)))
        return scores


class _Halve(nn.Module):
    """Halve the resolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=2, padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class _Block(nn.Module):
    """Add what two layers see to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))
