"""Put images back where a frozen classifier expects them."""

import copy
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms import v2
from typing_extensions import override

from eqrestore_lightning.motions import Element
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.transforms._kernels import Item, Move, move
from eqrestore_lightning.transforms._samples import check_sample, image_tensor, only_image
from eqrestore_lightning.transforms._sharing import Shareable
from eqrestore_lightning.weights._files import load_estimator, read_notes


@dataclass(frozen=True)
class Found:
    """How each image of a batch was moved, as `RestoreTransform.find` returns it.

    Attributes:
        motion: What `undo` undoes, by field: `shift`, pixels, int64 of shape `(..., num_axes)`;
            `angle`, degrees, float64 of shape `(...)`; `quarters` and `mirrored`, int64 of shape
            `(...)`; whichever the estimator finds. Zero for images that are left as they are.
        margin: How far the best element is ahead of its best rival: log-odds, float64 of shape
            `(...)`; NaN for images that are not finite. Without a `prior` it is the same however an
            image was moved.
        trusted: Whether `margin` reaches `min_margin`, bool of shape `(...)`.
        scores: float64 of shape `(..., *elements)`, bitwise equivariant; `None` unless asked for.
        rivals: The next best motions, best first, if several candidates were asked for. Their
            `margin` is below 0: how far they are behind the best; −infinity where there is none.
    """

    motion: Element
    margin: Tensor
    trusted: Tensor
    scores: Tensor | None = None
    rivals: "tuple[Found, ...]" = ()


class RestoreTransform(Shareable, v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Estimate how each image was shifted or turned, and move it back.

    Stands in front of any trained classifier: `nn.Sequential(RestoreTransform("mnist"),
    classifier)`. The estimator decides what is undone; the following is about shifts, see
    `RotationEstimator` for rotations.

    Restoring is invariant: every circular shift of an image is restored to the same image, **bit
    for bit**. The scores are computed in float64 arithmetic whose result does not depend on where
    things lie, also under autocast, and ties are broken by content. This holds for finite images
    whose entries are multiples of 2^-40 of their largest magnitude: all images of up to 32 bits,
    and those of 8 or 16 bits scaled to 0…1. Images that are not finite are left as they are. `-0.0`
    counts as `0.0`: images that differ in that sign alone are restored to equal values.

    Its place is **before** `Normalize`: the estimator was trained on images whose empty border is
    zero, and after `Normalize` it is not.

    Move it to the images' device with `.to(device)`, as any module. The weights are buffers: always
    in eval mode, in no optimizer, unchanged by training. Gradients flow through to the image.

    Convention:
        `find` returns the motion that was applied: shifts are positive as in `torch.roll`, for
        images (down, right); angles are degrees, counter-clockwise as displayed.

    Args:
        source: The name of bundled weights, the path of a `.safetensors` or Lightning `.ckpt` file,
            or an estimator (copied; of a compiled one, the estimator that was compiled).
        min_margin: Images whose margin is below it are left as they are; 0 restores all. The
            margin of an image is the same for every shift, so an image is restored for all shifts
            or for none.
        prior: Share of images that are expected not to have been moved, between 0 and 1, if it is
            known: images are left as they are unless their motion is the more probable, given that
            share. An image may then be restored from one motion and not from another, which is the
            point of it: most photographs are upright already. `None` to restore all.

    Shapes:
        `(C, *spatial)` or `(..., C, *spatial)` with the channels and size of the estimator, of any
        real dtype; uint8 is read as 0…255. Shape, dtype, device and type are kept: the original is
        moved, never a copy in another dtype.

    Samples:
        One image, or batch of images, with whatever belongs to it, in any nesting of lists, tuples
        and dictionaries; labels and everything else pass through. Images are plain tensors,
        `tv_tensors.Image`, PIL images of mode `L` or `RGB`, or the frames of a `tv_tensors.Video`,
        which are restored one by one (`undo(clip, find(clip[0]))` moves all of them alike). With
        the image move, in a batch each entry with its own image, `(*batch, ...)`:

        - `tv_tensors.Mask`, whose labels are not mixed;
        - `tv_tensors.BoundingBoxes` of all formats. Boxes stay whole: one that wraps around the
          border, and so extends beyond it, lies with its center in the image once it is moved back.
          One that is turned by other angles than quarters becomes the upright box around it, which
          is larger; those in rotated formats stay as they are. None is cut at the border, whatever
          its `clamping_mode`; `v2.ClampBoundingBoxes()` does that;
        - `tv_tensors.KeyPoints`, each of which stays on its pixel: (3, 7) lies on `[7, 3]`.

    Raises:
        FileNotFoundError: If `source` is a path at which there is no file.
        TypeError: If `source` is of another type; in `forward` for NumPy arrays (use
            `v2.ToImage()` first), PIL images of other modes, complex input, or a plain tensor of
            the image's size beside it, which torchvision would not move along.
        ValueError: If `source` is malformed, `min_margin` is below 0 or `prior` is not between 0
            and 1; in `forward` for another size or number of channels, more or less than one image
            (or batch), or boxes and key points of another size or for another number of images.

    Source: Section 4.1 of the paper.

    >>> import torch
    >>> restore = RestoreTransform("digits")
    >>> image = torch.zeros(1, 32, 32, dtype=torch.uint8)
    >>> image[0, 10:22, 13:19] = 200
    >>> moved = image.roll((5, -3), dims=(1, 2))
    >>> bool((restore(moved) == restore(image)).all())
    True
    >>> (restore.find(moved).motion["shift"] - restore.find(image).motion["shift"]) % 32
    tensor([ 5, 29])
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Estimator,
        *,
        min_margin: float = 0.0,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        source = getattr(source, "_orig_mod", source)  # of `torch.compile(estimator)`
        if isinstance(source, Estimator):
            estimator, notes = copy.deepcopy(source), {}
        elif isinstance(source, str | os.PathLike):
            estimator, notes = load_estimator(source), read_notes(source)
        else:
            raise TypeError(
                f"Expected `source` to be a name, a path or an estimator, "
                f"but got {type(source).__name__}."
            )
        if not min_margin >= 0:
            raise ValueError(f"Expected `min_margin` to be at least 0, but got {min_margin}.")
        if prior is not None and not 0 < prior < 1:
            raise ValueError(f"Expected `prior` to be between 0 and 1, but got {prior}.")
        self.min_margin = min_margin
        self.prior = prior
        self.notes = notes
        self.estimator = _freeze(estimator)
        self.train(False)

    @override
    def train(self, mode: bool = True) -> "RestoreTransform":  # stays in eval mode
        del mode
        super().train(False)
        return self

    def find(
        self, x: Tensor | PIL.Image.Image, *, candidates: int = 1, scores: bool = False
    ) -> Found:
        """Estimate how every image was moved: what `forward` undoes.

        Args:
            x: Images of shape `(..., C, *spatial)`, any real dtype, or a PIL image.
            candidates: How many motions to return: the best one and its best rivals, which belong
                to other peaks of the scores. A classifier may vote over them.
            scores: Whether to return the scores of all elements as well.

        Returns:
            Motion and margin of every image, see `Found`. `min_margin` concerns the best alone.

        Raises:
            TypeError: If `x` is complex.
            ValueError: If `x` has another size or number of channels, or `candidates` is below 1,
                or above it with a `prior`.

        >>> restore = RestoreTransform("mnist-rotation")
        >>> six = torch.zeros(1, 32, 32)
        >>> six[0, 8:24, 12] = six[0, 16:24, 19] = six[0, 16, 12:20] = six[0, 23, 12:20] = 1.0
        >>> found = restore.find(six, candidates=2)
        >>> views = [restore.undo(six, each) for each in (found, *found.rivals)]
        >>> len(views), bool(found.rivals[0].margin < 0)
        (2, True)
        """
        if candidates < 1 or (candidates > 1 and self.prior is not None):
            raise ValueError(
                f"Expected `candidates` to be at least 1, and 1 with a `prior`, "
                f"but got {candidates}."
            )
        batch, flat = self._flatten(image_tensor(x))
        every = self.estimator.exact_scores(flat)
        found = replace(
            self._decide(flat, every),
            scores=every if scores else None,
            rivals=tuple(self._rivals(flat, every, candidates - 1)),
        )
        return _with_batch_axes(found, batch)

    def decide(self, x: Tensor, scores: Tensor) -> Found:
        """Do what `find` does from known scores, to compare several `prior` or `min_margin`.

        Args:
            x: Images of shape `(batch, C, *spatial)`.
            scores: What `estimator.exact_scores(x)` returned.

        Raises:
            ValueError: If `x` is not a batch, or has another size or number of channels.
        """
        batch, flat = self._flatten(image_tensor(x))
        if len(batch) != 1:
            raise ValueError(f"Expected a batch of images, but got shape {tuple(x.shape)}.")
        self.estimator.check_input(flat)
        return self._decide(flat, scores)

    def undo(self, y: Item, found: Found) -> Item:
        """Move back images, or what belongs to them, by what was found.

        `undo(x, find(x))` is `forward(x)`. Shifts and quarter turns are exact. Where pixels are
        interpolated, `tv_tensors.Mask`, bool and int64 hold labels, which are not mixed.

        Args:
            y: Shape `(..., *maps, *spatial)`: the batch axes and the spatial size of the images in
                which the motion was found, with any number of axes in between. Or a PIL image,
                `tv_tensors.BoundingBoxes` or `tv_tensors.KeyPoints` that belong to one image, or
                begin with the batch axes.
            found: What `find` returned.

        Returns:
            A new one with the shape, dtype and type of `y`.

        Raises:
            TypeError: If `y` is of another type.
            ValueError: If the shape of `y` does not match that of the images.
        """
        return move(y, self._way_back(found))

    def redo(self, y: Item, found: Found) -> Item:
        """Move what belongs to the restored images to where the images were: the inverse of `undo`.

        For dense prediction and detection: restore, predict, and put the prediction where the image
        was. Exact, bit for bit, for shifts and quarter turns; other motions interpolate once.

        Arguments, result and errors are those of `undo`.

        >>> restore = RestoreTransform("digits")
        >>> images = torch.rand(5, 1, 32, 32)
        >>> found = restore.find(images)
        >>> bright = restore.undo(images, found)[:, 0] > 0.5  # a prediction for every pixel
        >>> torch.equal(restore.redo(bright, found), images[:, 0] > 0.5)
        True
        """
        return move(y, self._way_back(found).reversed())

    @override
    def check_inputs(self, flat_inputs: list[Any]) -> None:
        check_sample(flat_inputs, self.estimator.num_spatial_dims)

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        x = image_tensor(only_image(flat_inputs))
        batch, flat = self._flatten(x)
        if self.min_margin == 0 and self.prior is None:  # margins decide nothing
            element = self.estimator.estimate(flat)
        else:
            element = self._decide(flat, self.estimator.exact_scores(flat)).motion
        size, dims = tuple(flat.shape[2:]), self.estimator.num_spatial_dims
        return {"move": Move(self.estimator.motion, element, batch, dims, size, back=True)}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return move(inpt, params["move"])

    def _flatten(self, x: Tensor) -> tuple[tuple[int, ...], Tensor]:
        """Return the batch shape, and the images as `(batch, C, *spatial)` without gradient."""
        axes = self.estimator.num_spatial_dims + 1
        if x.ndim < axes:
            self.estimator.check_input(x)  # which refuses it
        batch = tuple(x.shape[:-axes])
        return batch, x.detach().reshape(math.prod(batch), *x.shape[-axes:])

    def _decide(self, x: Tensor, scores: Tensor) -> Found:
        """Return what was found in `(batch, C, *spatial)`, and whether it is to be undone."""
        margin, still = self._weigh(scores)
        trusted = margin >= self.min_margin
        motion = _masked(self.estimator.locate(scores, x), trusted & ~still)
        return Found(motion, margin, trusted)

    def _weigh(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins, and which images are more probably unmoved, given the prior."""
        margin = self.estimator.margin(scores)
        if self.prior is None:
            return margin, torch.zeros_like(margin, dtype=torch.bool)
        ahead = self.estimator.evidence(scores) - math.log(self.prior / (1 - self.prior))
        flat = scores.flatten(1)
        best = flat[:, 0] == flat.amax(1)  # no motion: then all others are behind by more
        behind = torch.where(best, margin, 0) - ahead
        return torch.where(ahead > 0, torch.minimum(margin, ahead), behind), ~(ahead > 0)

    def _rivals(self, x: Tensor, scores: Tensor, count: int) -> Iterator[Found]:
        best = self.estimator.best_score(scores)
        trusted = self.estimator.margin(scores) >= self.min_margin
        for _ in range(count):
            scores = self.estimator.without_best(scores)
            behind = self.estimator.best_score(scores) - best
            yield Found(self.estimator.locate(scores, x), behind, trusted)

    def _way_back(self, found: Found) -> Move:
        """Return how to move back what belongs to the images in which a motion was found."""
        batch = tuple(found.trusted.shape)
        element = {
            name: value.reshape(math.prod(batch), *value.shape[len(batch) :])
            for name, value in found.motion.items()
        }
        dims, size = self.estimator.num_spatial_dims, self.estimator.spatial_size
        return Move(self.estimator.motion, element, batch, dims, size, back=True)


def _with_batch_axes(found: Found, batch: tuple[int, ...]) -> Found:
    """Return what was found in a flat batch with the batch axes of the images."""

    def unflatten(value: Tensor) -> Tensor:
        return value.reshape((*batch, *value.shape[1:]))

    return Found(
        motion={name: unflatten(value) for name, value in found.motion.items()},
        margin=unflatten(found.margin),
        trusted=unflatten(found.trusted),
        scores=None if found.scores is None else unflatten(found.scores),
        rivals=tuple(_with_batch_axes(rival, batch) for rival in found.rivals),
    )


def _masked(element: Element, trusted: Tensor) -> Element:
    """Return an element that is zero where images are not to be moved."""
    masked = {}
    for name, value in element.items():
        keep = trusted.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        masked[name] = torch.where(keep, value, 0)
    return masked


def _freeze(estimator: Estimator) -> Estimator:
    """Turn every parameter into a buffer: it moves with `.to()`, and no optimizer sees it."""
    for module in list(estimator.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return estimator
