"""What estimators share that look at turned copies of an image."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from eqrestore_lightning.functional import rotate
from eqrestore_lightning.functional._exact import content_hash, hash_weights
from eqrestore_lightning.functional._traced import is_traced
from eqrestore_lightning.motions import Element, Motion, QuarterTurn, Turn
from eqrestore_lightning.motions._base import build_motion
from eqrestore_lightning.nn._base import Estimator, check_factor, split_batch
from eqrestore_lightning.nn._grids import AngleGrid, QuarterGrid, to_device

_QUARTERS = 4


class TurnedCopies(Estimator):
    """Score turns by what a network says about turned copies: what such estimators share.

    The first copy is that one of the quarter turns (and mirror images with `mirrors`) that a fixed
    rule on the content picks; all others are made of that one. The network sees the same copies in
    whichever of these ways an image lies, so that all of them are restored to the same image, bit
    for bit, as long as it computes the same from the same batch. Subclasses say what is looked at,
    `prepare`, and score by what they see in it, `aligned`.
    """

    spatial_size = None
    scale: Tensor
    pixels_at_once = 2**22
    """Images of at most so many pixels, and at least one, are looked at in one go."""

    def __init__(
        self,
        in_channels: int,
        motion: Motion | Mapping[str, Any],
        *,
        num_angles: int,
        sub_grid: bool,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"Expected `in_channels` to be at least 1, but got {in_channels}.")
        motion = motion if isinstance(motion, Motion) else build_motion(motion)
        if not isinstance(motion, QuarterTurn | Turn):
            raise ValueError(f"Expected `motion` to be a QuarterTurn or a Turn, but got {motion}.")
        if num_angles < _QUARTERS or num_angles % _QUARTERS:
            raise ValueError(f"Expected `num_angles` to be a multiple of 4, but got {num_angles}.")
        if isinstance(motion, QuarterTurn) and num_angles != _QUARTERS:
            raise ValueError(
                f"Expected `num_angles` to be 4 for a QuarterTurn, but got {num_angles}."
            )
        self.in_channels = in_channels
        self.num_angles = num_angles
        self.sub_grid = sub_grid
        self._motion = motion
        self.grid: QuarterGrid | AngleGrid = (
            QuarterGrid(mirrors=motion.mirrors)
            if isinstance(motion, QuarterTurn)
            else AngleGrid(num_angles, sub_grid=sub_grid)
        )
        self.register_buffer("scale", torch.ones(()))

    @abstractmethod
    def prepare(self, x: Tensor) -> Tensor:
        """Return what copies are made of; it turns along with the images, bit for bit."""

    @property
    def turns(self) -> list[tuple[bool, int]]:
        """What each score stands for: whether mirrored, then turned by how many angles."""
        sides = (False, True) if self.grid.mirrors else (False,)
        return [(mirrored, turn) for mirrored in sides for turn in range(self.num_angles)]

    @property
    @override
    def motion(self) -> Motion:
        return self._motion

    @torch.no_grad()
    @override
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        place = self.place(scores, x)
        return to_device(self.grid.element(scores, place), x.device)

    def place(self, scores: Tensor, x: Tensor) -> Tensor:
        """Return which score is the largest, as `locate` decides; int64 of shape `(batch,)`."""
        place = scores.argmax(1)  # 0 where scores are NaN
        tied = (scores == scores.amax(1, keepdim=True)).sum(1) > 1
        if is_traced(scores):
            place = torch.where(tied, self._place_by_content(scores, x), place)
        elif tied.any():
            place[tied] = self._place_by_content(scores[tied], x[tied.to(x.device)])
        return place

    @override
    def same_peak(self, scores: Tensor) -> Tensor:
        return self.grid.same_peak(scores)

    @override
    def loss(self, scores: Tensor, element: Element) -> Tensor:
        return self.grid.loss(scores, element)

    @torch.no_grad()
    @override
    def scale_scores(self, factor: float) -> None:
        check_factor(factor)
        self.scale.mul_(factor)

    def copy(self, first: Tensor, *, mirrored: bool, turn: int) -> Tensor:
        """Return copies with a mirror image and a turn by `turn` angles of the grid undone."""
        quarters, rest = divmod(turn * _QUARTERS, self.num_angles)
        y = torch.rot90(first, -quarters, (2, 3))
        if rest:
            angle = torch.full((y.shape[0],), -rest * 90 / self.num_angles, device=y.device)
            y = rotate(y, angle)
        return y.flip(3) if mirrored else y

    def relative(self, *, mirrored: bool, turn: int) -> list[int]:
        """Return, for every turn `g`, the index of `h⁻¹ g`, where `h` is `(mirrored, turn)`."""
        sign = -1 if mirrored else 1
        return [
            (mirrored ^ other) * self.num_angles + sign * (each - turn) % self.num_angles
            for other, each in self.turns
        ]

    @property
    def quarter_turns(self) -> list[tuple[bool, int]]:
        """The quarter turns among `turns`."""
        step = self.num_angles // _QUARTERS
        return [(mirrored, turn) for mirrored, turn in self.turns if turn % step == 0]

    def aligned(self, x: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
        """Look at first copies, and put what is seen in the order of the turns of the images."""
        parts = split_batch(x, self.pixels_at_once)
        return torch.cat([self._aligned(part, look) for part in parts])

    def _aligned(self, x: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
        prepared = self.prepare(x.detach())
        chosen = self._first_copy(prepared, x)
        first = prepared.new_zeros(())
        for index in self._candidates(prepared):
            mirrored, turn = self.quarter_turns[index]
            copy = self.copy(prepared, mirrored=mirrored, turn=turn)
            first = torch.where((chosen == index).reshape(-1, 1, 1, 1), copy, first)
        seen = look(first.contiguous())  # one layout in memory, however the images lay
        places = self._relative_to(chosen).to(seen.device)
        places = places.reshape(*places.shape, *[1] * (seen.ndim - 2))
        return seen.gather(1, places.expand_as(seen))

    def _place_by_content(self, scores: Tensor, x: Tensor) -> Tensor:
        """Return the first one of the largest scores, as counted from the first copy."""
        first = self._first_copy(self.prepare(x.detach()), x).to(scores.device)
        back = self._relative_to(first).argsort(1)
        best = scores.gather(1, back).argmax(1, keepdim=True)
        return back.gather(1, best).squeeze(1)

    def _relative_to(self, first: Tensor) -> Tensor:
        """Return the rows of `relative` for the first copies, int64 `(batch, scores)`."""
        rows = [self.relative(mirrored=m, turn=turn) for m, turn in self.quarter_turns]
        return torch.tensor(rows, device=first.device)[first]

    def _candidates(self, x: Tensor) -> list[int]:
        """Return which of `quarter_turns` make no copy wider than high: of square images, all."""
        height, width = x.shape[2:]
        step = self.num_angles // _QUARTERS
        turned = [turn // step % 2 == 1 for _, turn in self.quarter_turns]
        return [i for i, odd in enumerate(turned) if height == width or odd == (width > height)]

    def _first_copy(self, prepared: Tensor, x: Tensor) -> Tensor:
        """Return which of `quarter_turns`, undone, is the first copy of each image.

        What is looked at decides, and the image itself where that looks the same in several ways.
        """
        keys = self._content_keys(prepared)
        largest = keys == keys.amax(1, keepdim=True)
        tied = largest.sum(1) > 1
        if is_traced(x):
            finer = self._content_keys(x.detach())
        elif tied.any():
            finer = torch.zeros_like(keys)
            finer[tied] = self._content_keys(x.detach()[tied])
        else:
            finer = keys
        best = finer.masked_fill(~largest, torch.iinfo(torch.int64).min).argmax(1)
        return torch.tensor(self._candidates(prepared), device=best.device)[best]

    def _content_keys(self, x: Tensor) -> Tensor:
        """Return one number for each candidate: equal only for equal copies."""
        keys = []
        for index in self._candidates(x):
            mirrored, turn = self.quarter_turns[index]
            quarters = turn * _QUARTERS // self.num_angles
            size = torch.rot90(x[:1], -quarters, (2, 3)).shape[1:]
            weights = hash_weights(size, device=x.device).unsqueeze(0)
            weights = weights.flip(3) if mirrored else weights  # moved in place of all images
            keys.append(content_hash(x, torch.rot90(weights, quarters, (2, 3))))
        return torch.stack(keys, 1)


def central_square(x: Tensor) -> Tensor:
    """Return the largest square in the middle of images `(batch, channels, height, width)`."""
    size = min(x.shape[2:])
    top, left = ((side - size) // 2 for side in x.shape[2:])
    return x[:, :, top : top + size, left : left + size]


def inscribed_disc(x: Tensor) -> Tensor:
    """Return which pixels of a square lie in the largest circle of pixel centers, bool."""
    size = x.shape[3]
    twice = (2 * torch.arange(size, device=x.device) - (size - 1)) ** 2
    return twice.unsqueeze(1) + twice <= (size - 1) ** 2


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Keep a network in eval mode, so that images do not depend on others of their batch."""
    training = [each for each in module.modules() if each.training]
    module.eval()
    try:
        yield
    finally:
        for each in training:
            each.training = True
