"""The interface that all estimators share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.functional._traced import is_traced
from eqrestore_lightning.motions import Element, Motion

ESTIMATORS: Registry[type["Estimator"]] = Registry("an estimator", "config['kind']")
"""The kinds of estimators that can be saved and loaded, by class name."""

register_estimator = ESTIMATORS.register


class Estimator(nn.Module, ABC):
    """A network that scores how each image may have been moved, and the motion that it finds.

    `RestoreTransform` calls `estimate`, then `motion.undo`; where it needs margins, `exact_scores`,
    `margin` and `locate` instead. `RestorerModule` trains with `loss`; saving and loading use
    `config`. A new kind of estimator is a subclass with `@register_estimator`.

    Weights keep their dtype: what is found must not depend on whether a restorer stands in a model
    that was sent to half precision. `.half()`, `.double()` and `.to(dtype)` change the device only.

    Attributes:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis of the images, pixels; `None` for any size.
        side_range: Least and largest size of an axis, pixels, of images of any size.

    Source: Definition 4.1, for any group.
    """

    in_channels: int
    spatial_size: tuple[int, ...] | None
    side_range: tuple[int, int] | None = None

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""

    @property
    @abstractmethod
    def motion(self) -> Motion:
        """The motion that is found and undone."""

    @property
    def training_motion(self) -> Motion:
        """The motion that training applies by default.

        Parts to which the network is exactly equivariant, such as circular shifts, teach it
        nothing, so they are left out.
        """
        return self.motion

    @property
    def num_spatial_dims(self) -> int:
        """Number of spatial axes of the images."""
        return 2 if self.spatial_size is None else len(self.spatial_size)

    @abstractmethod
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        """Score every element; `forward` and `exact_scores` check `x` and call it.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, float32 or float64; any real dtype if
                `exact`.
            exact: Whether scores must follow the image bit for bit, and be float64, rather than be
                differentiable.

        Returns:
            Shape `(batch, *elements)`.
        """

    @abstractmethod
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        """Return the element with the largest score; ties are broken by content.

        Args:
            scores: What `exact_scores(x)` returned.
            x: The images scored.

        Returns:
            The element, on the device of `x`; no motion for images that are not finite.
        """

    @abstractmethod
    def loss(self, scores: Tensor, element: Element) -> Tensor:
        """Compute the cross-entropy of scores, taken as log-probabilities up to a constant.

        Args:
            scores: What `forward` returned for images moved by `element`.
            element: How they were moved.

        Returns:
            Mean over the batch, floating, without axes.
        """

    @abstractmethod
    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a positive factor, in place: margins change, estimates do not.

        Raises:
            ValueError: If `factor` is not finite or not above 0.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Score every element, differentiably; equivariant up to rounding.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, floating.

        Returns:
            Shape `(batch, *elements)`, dtype of `x`, at least float32.

        Raises:
            TypeError: If `x` is not floating.
            ValueError: If `x` has another shape.
        """
        if not x.is_floating_point():
            raise TypeError(f"Expected `x` to be floating, but got {x.dtype}.")
        self.check_input(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        return self.score(x.to(dtype), exact=False).to(dtype)

    @torch.no_grad()
    def exact_scores(self, x: Tensor) -> Tensor:
        """Score every element, bitwise equivariantly: the scores of an image move as it does.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, any real dtype; uint8 is read as 0…255.

        Returns:
            float64 of shape `(batch, *elements)`, exact; on the device of `x`, or on the CPU where
            that device (Apple's MPS) has no float64.

        Raises:
            ValueError: If `x` has another shape.
        """
        self.check_input(x)
        return self.score(x, exact=True)

    def estimate(self, x: Tensor) -> Element:
        """Find how each image was moved: what `locate` returns for `exact_scores`, bit for bit.

        Estimators may find it without all exact scores, in less time.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, any real dtype; uint8 is read as 0…255.

        Returns:
            The element, on the device of `x`; no motion for images that are not finite.

        Raises:
            ValueError: If `x` has another shape.
        """
        return self.locate(self.exact_scores(x), x)

    def split(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Split scores into parts, of which each has a best score of its own.

        Args:
            scores: What `forward` or `exact_scores` returned, or a mask of that shape.

        Returns:
            Each of shape `(batch, places)`, in the order in which `scores` holds them; a place 0
            stands for no motion. One part, unless a subclass says otherwise.
        """
        return (scores.flatten(1),)

    def same_peak(self, scores: Tensor) -> Tensor:
        """Find the scores that belong to the peak of the best one, in each part.

        Margins and candidates do not count them as rivals: neighboring angles always score alike.

        Args:
            scores: What `exact_scores` returned.

        Returns:
            bool of the shape of `scores`; the best score alone, unless a subclass says otherwise.
            Of equal best scores, it is the peak of the first one.
        """
        return best_only(scores)

    def margin(self, scores: Tensor) -> Tensor:
        """Compute how far the best element is ahead of the best one of another peak: log-odds.

        Args:
            scores: What `exact_scores` returned.

        Returns:
            At least 0, shape `(batch,)`; the same however an image was moved. Infinite where all
            scores belong to one peak. Of several parts, the smallest.
        """
        return torch.stack(self._margins(scores), 1).amin(1)

    def best_score(self, scores: Tensor) -> Tensor:
        """Return the score of the best element, shape `(batch,)`: the sum over the parts."""
        return torch.stack([part.amax(1) for part in self.split(scores)], 1).sum(1)

    def without_best(self, scores: Tensor) -> Tensor:
        """Exclude the best element, and what belongs to the same peak.

        Of several parts, that one is changed whose best score is least ahead.

        Args:
            scores: What `exact_scores` returned, or this method, for the next best element.

        Returns:
            A new tensor with −infinity there: `locate` finds the best rival in it.
        """
        peaks = self.split(self.same_peak(scores))
        nearest = torch.stack(self._margins(scores), 1).argmin(1, keepdim=True)
        others = [
            part.masked_fill(
                (peak | (part == part.amax(1, keepdim=True))) & (nearest == index), -torch.inf
            )
            for index, (part, peak) in enumerate(zip(self.split(scores), peaks, strict=True))
        ]
        return torch.cat(others, 1).reshape(scores.shape)

    def evidence(self, scores: Tensor) -> Tensor:
        """Compute the log-odds of the best element against no motion, if half of all images moved.

        Moved images are taken to have been moved by any other element with the same probability.

        Args:
            scores: What `exact_scores` returned.

        Returns:
            Shape `(batch,)`, dtype of `scores`. Where a share `prior` of images is expected not to
            have moved, the log-odds are lower by `log(prior / (1 − prior))`.
        """
        parts = self.split(scores)
        ahead = torch.stack([part.amax(1) - part[:, 0] for part in parts], 1).sum(1)
        return ahead - math.log(max(1, math.prod(part.shape[1] for part in parts) - 1))

    def constant(self, scores: Tensor) -> Tensor:
        """Check for which images all scores of a part are equal, up to rounding: nothing was found.

        Args:
            scores: What `forward` returned.

        Returns:
            bool of shape `(batch,)`.
        """
        parts = self.split(scores)
        equal = [p.amax(1) - p.amin(1) <= 1e-5 * p.abs().amax(1) for p in parts]
        return torch.stack(equal, 1).any(1)

    def _margins(self, scores: Tensor) -> list[Tensor]:
        """Return the margin of each part."""
        peaks = self.split(self.same_peak(scores))
        return [
            part.amax(1) - part.masked_fill(peak, -torch.inf).amax(1)
            for part, peak in zip(self.split(scores), peaks, strict=True)
        ]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move weights as every module does, but keep their dtype."""

        def keep_dtype(weight: Tensor) -> Tensor:
            moved = fn(weight)
            return moved if moved.dtype == weight.dtype else weight.to(moved.device)

        return super()._apply(keep_dtype, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def check_input(self, x: Tensor) -> None:
        """Raise `ValueError` unless `x` has the shape that the estimator was built for."""
        if self.spatial_size is None:
            matches = x.ndim == self.num_spatial_dims + 2 and x.shape[1] == self.in_channels
            names = ("length", "height, width", "depth, height, width")
            expected = names[self.num_spatial_dims - 1]
        else:
            matches = tuple(x.shape[1:]) == (self.in_channels, *self.spatial_size)
            expected = ", ".join(map(str, self.spatial_size))
        if not matches:
            raise ValueError(
                f"Expected `x` to have shape (batch, {self.in_channels}, {expected}), "
                f"but got {tuple(x.shape)}."
            )
        if self.side_range is None:
            return
        smallest, largest = self.side_range
        if min(x.shape[2:]) < smallest or max(x.shape[2:]) > largest:
            raise ValueError(
                f"Expected images of {smallest} to {largest} pixels on each axis, "
                f"but got {tuple(x.shape[2:])}."
            )


def best_only(scores: Tensor) -> Tensor:
    """Return where the largest score of each sample is, the first of equal ones."""
    flat = scores.flatten(1)
    places = torch.arange(flat.shape[1], device=scores.device)
    return (places == flat.argmax(1, keepdim=True)).reshape(scores.shape)


def split_batch(x: Tensor, pixels: int) -> Sequence[Tensor]:
    """Split a batch into parts of at most so many pixels (64 times as many beyond a CPU)."""
    at_once = max(1, pixels * (1 if x.is_cpu else 64) // max(1, math.prod(x.shape[2:])))
    return [x] if is_traced(x) or len(x) <= at_once else torch.split(x, at_once)


def check_spatial_size(spatial_size: Sequence[int]) -> None:
    """Raise `ValueError` unless there are one to three sizes, each at least 1."""
    if not 1 <= len(spatial_size) <= 3 or min(spatial_size) < 1:
        raise ValueError(
            f"Expected `spatial_size` to be one to three sizes of at least 1, "
            f"but got {tuple(spatial_size)}."
        )


def check_factor(factor: float) -> None:
    """Raise `ValueError` unless a factor on scores is finite and above 0."""
    if not 0 < factor < math.inf:
        raise ValueError(f"Expected `factor` to be finite and above 0, but got {factor}.")
