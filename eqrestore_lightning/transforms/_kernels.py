"""How each type of thing in a sample is moved: a table of kernels, in torchvision's manner."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.transforms._samples import image_tensor

_FORMATS = tv_tensors.BoundingBoxFormat

Item = TypeVar("Item")
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


@dataclass(frozen=True)
class Move:
    """How to move some images, by one element for each, and whatever belongs to them.

    Attributes:
        batch: Shape of the batch of images, whose elements lie in one batch axis.
        spatial_size: Of the images before they are moved, pixels; `None` for any.
    """

    motion: Motion
    element: Element
    batch: tuple[int, ...]
    num_spatial_dims: int
    spatial_size: tuple[int, ...] | None = None
    back: bool = False

    def pixels(self, y: Tensor, *, labels: bool) -> Tensor:
        """Move images or maps of shape `(*batch, *maps, *spatial)`; `labels` are not mixed."""
        motion = self.motion.for_labels() if labels else self.motion
        between = y.ndim - self.num_spatial_dims
        maps, size = y.shape[len(self.batch) : between], tuple(y.shape[between:])
        expected = self.spatial_size or size
        if tuple(y.shape) != (*self.batch, *maps, *expected):
            axes = ", ".join(map(str, [*self.batch, "...", *expected]))
            raise ValueError(
                f"Expected images or maps of shape ({axes}), but got {tuple(y.shape)}."
            )
        flat = y.reshape(math.prod(self.batch), math.prod(maps), *size)
        moved = (motion.undo if self.back else motion.apply)(flat, self.element)
        return moved.reshape((*self.batch, *maps, *moved.shape[2:]))

    def points(self, xy: Tensor, canvas_size: Sequence[int]) -> Tensor:
        """Move points (right, down) of shape `(*batch, ..., points of one thing, 2)`, float64.

        All of them belong to the image if there is but one.
        """
        shape, count = tuple(xy.shape), math.prod(self.batch)
        first = 0 if count == 1 else len(self.batch)
        if shape[:first] != self.batch[:first]:
            raise ValueError(
                f"Expected boxes or key points for each image of a batch of shape {self.batch}, "
                f"but got {shape[:-2]} of them."
            )
        flat = xy.reshape(count, math.prod(shape[first:-2]), *shape[-2:]).flip(-1)
        element = {name: value.to(xy.device) for name, value in self.element.items()}
        move_points = self.motion.undo_points if self.back else self.motion.apply_points
        return move_points(flat, element, tuple(canvas_size)).flip(-1).reshape(shape)

    def moved_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the size of images or maps once they are moved."""
        return self.motion.moved_size(size, self.element)

    def reversed(self) -> "Move":
        """Return how to move back what was moved."""
        size = self.spatial_size and self.moved_size(self.spatial_size)
        return replace(self, spatial_size=size, back=not self.back)


_KERNELS: dict[type, Callable[[Any, Move], Any]] = {}


def _moves(*types: type) -> Callable[[Kernel], Kernel]:
    """Register a kernel for some types, and for those derived from them."""

    def register(kernel: Kernel) -> Kernel:
        _KERNELS.update(dict.fromkeys(types, kernel))
        return kernel

    return register


def move(inpt: Item, how: Move) -> Item:
    """Move an image, or what belongs to it, by the kernel of its type."""
    for cls in type(inpt).__mro__:
        if cls in _KERNELS:
            moved: Item = _KERNELS[cls](inpt, how)
            return moved
        if cls is tv_tensors.TVTensor:  # one that a user defined is not just pixels
            break
    raise TypeError(
        f"Expected images, videos, masks, bounding boxes and key points, "
        f"but got {type(inpt).__name__}."
    )


@_moves(Tensor)
def _move_tensor(x: Tensor, how: Move) -> Tensor:
    return how.pixels(x, labels=x.dtype in (torch.bool, torch.int64))


@_moves(tv_tensors.Image, tv_tensors.Video)
def _move_image(x: Tensor, how: Move) -> Tensor:
    return _wrap(_move_tensor(x.as_subclass(Tensor), how), like=x)


@_moves(tv_tensors.Mask)
def _move_mask(x: Tensor, how: Move) -> Tensor:
    return _wrap(how.pixels(x.as_subclass(Tensor), labels=True), like=x)


@_moves(PIL.Image.Image)
def _move_pil(x: PIL.Image.Image, how: Move) -> PIL.Image.Image:
    moved: PIL.Image.Image = TF.to_pil_image(_move_tensor(image_tensor(x), how), mode=x.mode)
    return moved


@_moves(tv_tensors.BoundingBoxes)
def _move_boxes(x: Any, how: Move) -> Tensor:
    _check_canvas(x, how)
    boxes = _precise(x.as_subclass(Tensor))
    if tv_tensors.is_rotated_bounding_format(x.format):
        return _like(_move_rotated(boxes, x.format, x.canvas_size, how), x, how)
    corners = TF.convert_bounding_box_format(boxes, x.format, _FORMATS.XYXY)
    corners = corners[..., [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(-1, (4, 2))
    moved = how.points(corners, x.canvas_size)
    around = torch.cat([moved.amin(-2), moved.amax(-2)], -1)
    ends, inverted = moved[..., [0, 2], :].flatten(-2), around.roll(2, -1)
    invalid = torch.where(_has_area(ends), inverted, ends)  # `SanitizeBoundingBoxes` removes them
    valid = _has_area(corners[..., [0, 2], :].flatten(-2))
    moved = torch.where(valid, around, invalid)
    return _like(TF.convert_bounding_box_format(moved, _FORMATS.XYXY, x.format), x, how)


def _move_rotated(boxes: Tensor, layout: Any, canvas_size: Sequence[int], how: Move) -> Tensor:
    outline = TF.convert_bounding_box_format(boxes, layout, _FORMATS.XYXYXYXY)
    corners = outline.unflatten(-1, (4, 2))
    moved = how.points(corners, canvas_size)
    mirrored = (_orientation(corners) != _orientation(moved))[..., None, None]
    moved = torch.where(mirrored, moved[..., [1, 0, 3, 2], :], moved).flatten(-2)
    moved = torch.as_tensor(TF.convert_bounding_box_format(moved, _FORMATS.XYXYXYXY, layout))
    if layout == _FORMATS.XYXYXYXY:
        return moved
    sizes = boxes[..., 2:4]  # lengths that are not above 0 stay so
    valid = (sizes > 0).all(-1, keepdim=True)
    return torch.cat(
        [moved[..., :2], torch.where(valid, moved[..., 2:4], sizes), moved[..., 4:]], -1
    )


def _has_area(boxes: Tensor) -> Tensor:
    """Check which boxes, as left, top, right, bottom, have a size above 0: `(..., 4)` to 1."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True)


@_moves(tv_tensors.KeyPoints)
def _move_key_points(x: Any, how: Move) -> Tensor:
    _check_canvas(x, how)
    middle = _precise(x.as_subclass(Tensor)).unsqueeze(-2) + 0.5  # (0, 0) is the first pixel
    return _like((how.points(middle, x.canvas_size) - 0.5).squeeze(-2), x, how)


def _check_canvas(x: Any, how: Move) -> None:
    size = how.spatial_size or tuple(x.canvas_size)
    if tuple(x.canvas_size) != size:
        raise ValueError(
            f"Expected {type(x).__name__} of the image's size {size}, "
            f"but got {tuple(x.canvas_size)}."
        )


def _orientation(corners: Tensor) -> Tensor:
    """Check which boxes have their corners clockwise as displayed: `(..., 4, 2)` to `(...)`."""
    (right, down), (right_next, down_next) = (
        (corners[..., i, :] - corners[..., 0, :]).unbind(-1) for i in (1, 3)
    )
    return right * down_next > down * right_next


def _precise(x: Tensor) -> Tensor:
    """Return coordinates in float64, except on Apple's MPS, which has none."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _like(y: Tensor, x: Any, how: Move) -> Tensor:
    """Return coordinates with the dtype and type of `x`, on the canvas of the moved image."""
    y = (y if x.is_floating_point() else y.round()).to(x.dtype)
    return _wrap(y, like=x, canvas_size=how.moved_size(x.canvas_size))


def _wrap(y: Tensor, like: Tensor, **changes: Any) -> Tensor:
    wrapped: Tensor = tv_tensors.wrap(y, like=like, **changes)
    return wrapped
