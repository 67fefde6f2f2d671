"""Helpers of the transforms: the one image of a sample, and maps that move along with images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors


def only_image(flat_inputs: Sequence[Any]) -> Tensor:
    """Return the one image of a sample, among masks.

    Args:
        flat_inputs: What torchvision finds to transform in the sample.

    Raises:
        TypeError: If there are PIL images, bounding boxes or key points.
        ValueError: If there is not exactly one image.

    >>> only_image([tv_tensors.Mask(torch.zeros(3, 4)), torch.ones(1, 3, 4)]).shape
    torch.Size([1, 3, 4])
    """
    for leaf in flat_inputs:
        if isinstance(leaf, PIL.Image.Image):
            raise TypeError(
                f"Expected tensor images, but got a PIL image ({type(leaf).__name__}); "
                f"put `v2.ToImage()` before it."
            )
        if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(
            leaf, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
        ):
            raise TypeError(
                f"Expected images and masks, but got {type(leaf).__name__}, "
                f"which cannot wrap around the border."
            )
    images = [leaf for leaf in flat_inputs if not isinstance(leaf, tv_tensors.Mask)]
    if len(images) != 1:
        raise ValueError(f"Expected one image in a sample, but got {len(images)}.")
    image: Tensor = images[0]
    return image


def check_sample(flat_inputs: Sequence[Any], num_spatial_dims: int) -> None:
    """Refuse samples of which torchvision would move one part and pass on another as it is.

    torchvision moves the first plain tensor of a sample as its image, and passes on what follows:
    right for labels, wrong for a second image or a plain mask.

    Args:
        flat_inputs: Everything in the sample.
        num_spatial_dims: Number of spatial axes of images.

    Raises:
        TypeError: If there are NumPy arrays of the rank of images, or a plain tensor of the size of
            the image beside it.

    >>> check_sample([torch.zeros(1, 3, 4), torch.tensor(7)], 2)  # an image and its label
    """
    arrays = [x for x in flat_inputs if isinstance(x, np.ndarray) and x.ndim >= num_spatial_dims]
    if arrays:
        raise TypeError(
            f"Expected tensors, but got a NumPy array of shape {arrays[0].shape}; put "
            f"`v2.ToImage()` before it, or use torch.from_numpy."
        )
    images = [x for x in flat_inputs if isinstance(x, (tv_tensors.Image, tv_tensors.Video))]
    others = [
        x for x in flat_inputs if isinstance(x, Tensor) and not isinstance(x, tv_tensors.TVTensor)
    ]
    first, rest = (images[0], others) if images else (others[0] if others else None, others[1:])
    if first is None or first.ndim <= num_spatial_dims:
        return
    size = tuple(first.shape[-num_spatial_dims:])
    for other in rest:
        if other.ndim >= num_spatial_dims and tuple(other.shape[-num_spatial_dims:]) == size:
            raise TypeError(
                f"Expected one image, and masks as `tv_tensors.Mask`, but got a plain tensor of "
                f"shape {tuple(other.shape)} beside an image of shape {tuple(first.shape)}, which "
                f"would not be moved along; stack images to a batch."
            )


def holds_labels(y: Tensor) -> bool:
    """Check whether values must not be mixed: those of a `tv_tensors.Mask`, of bool and int64.

    >>> holds_labels(torch.zeros(3, 4, dtype=torch.int64)), holds_labels(torch.zeros(3, 4))
    (True, False)
    """
    return isinstance(y, tv_tensors.Mask) or y.dtype in (torch.bool, torch.int64)


def plain(x: Tensor) -> Tensor:
    """Return `x` without its torchvision type."""
    return x.as_subclass(Tensor) if isinstance(x, tv_tensors.TVTensor) else x


def wrap_like(y: Tensor, like: Tensor) -> Tensor:
    """Return `y` with the torchvision type of `like`, if that has one."""
    if not isinstance(like, tv_tensors.TVTensor):
        return y
    wrapped: Tensor = tv_tensors.wrap(y, like=like)
    return wrapped


def flatten_maps(y: Tensor, batch: Sequence[int], spatial: Sequence[int]) -> Tensor:
    """Return images, or maps that belong to them, as `(images, maps, *spatial)`.

    Args:
        y: Shape `(*batch, *maps, *spatial)`, with any number of axes in between.
        batch: Shape of the batch of images; empty for one image.
        spatial: Size of each spatial axis, pixels.

    Raises:
        ValueError: If `y` has another shape.

    >>> flatten_maps(torch.zeros(7, 2, 5, 3, 4), (7, 2), (3, 4)).shape
    torch.Size([14, 5, 3, 4])
    """
    between = y.ndim - len(spatial)
    if (
        between < len(batch)
        or tuple(y.shape[: len(batch)]) != tuple(batch)
        or tuple(y.shape[between:]) != tuple(spatial)
    ):
        expected = ", ".join(map(str, [*batch, "...", *spatial]))
        raise ValueError(
            f"Expected images or maps of shape ({expected}), but got {tuple(y.shape)}."
        )
    return y.reshape(math.prod(batch), math.prod(y.shape[len(batch) : between]), *spatial)
