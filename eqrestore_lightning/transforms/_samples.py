"""What a sample may consist of: one image, what belongs to it, and labels, which pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

ALONG = (tv_tensors.Mask, tv_tensors.BoundingBoxes, tv_tensors.KeyPoints)
"""Types that belong to an image, and are moved along with it."""

_IMAGES = (tv_tensors.Image, tv_tensors.Video, PIL.Image.Image)
_MODES = ("L", "RGB")


def only_image(flat_inputs: Sequence[Any]) -> Any:
    """Return the one image, batch of images or video of a sample, among what belongs to it.

    >>> import torch
    >>> only_image([tv_tensors.Mask(torch.zeros(3, 4)), torch.ones(1, 3, 4)]).shape
    torch.Size([1, 3, 4])
    """
    for leaf in flat_inputs:
        if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(leaf, (*_IMAGES, *ALONG)):
            raise TypeError(
                f"Expected images, videos, masks, bounding boxes and key points, "
                f"but got {type(leaf).__name__}."
            )
    images = [leaf for leaf in flat_inputs if not isinstance(leaf, ALONG)]
    if len(images) != 1:
        raise ValueError(f"Expected one image in a sample, but got {len(images)}.")
    return images[0]


def image_tensor(image: Any) -> Tensor:
    """Return an image as a plain tensor: a PIL image as uint8 of shape `(C, H, W)`.

    >>> image_tensor(PIL.Image.new("RGB", (4, 3))).shape
    torch.Size([3, 3, 4])
    """
    if isinstance(image, PIL.Image.Image):
        if image.mode not in _MODES:
            raise TypeError(
                f"Expected a PIL image of mode {' or '.join(_MODES)}, but got {image.mode!r}; "
                f"`image.convert('RGB')` gives one."
            )
        pixels: Tensor = TF.pil_to_tensor(image)
        return pixels
    if not isinstance(image, Tensor):
        raise TypeError(f"Expected a tensor or a PIL image, but got {type(image).__name__}.")
    narrow = image.is_floating_point() and image.element_size() < 2
    if narrow or image.is_complex() or image.is_quantized:
        raise TypeError(
            f"Expected images of a real dtype, of 16 bits or more if floating, "
            f"but got {image.dtype}."
        )
    if image.is_meta:
        raise ValueError("Expected images with values, but got some on the device `meta`.")
    return image.as_subclass(Tensor) if isinstance(image, tv_tensors.TVTensor) else image


def check_sample(flat_inputs: Sequence[Any], num_spatial_dims: int) -> None:
    """Refuse samples of which torchvision would move one part and pass on another as it is.

    torchvision moves the first plain tensor of a sample as its image, and passes on what follows:
    right for labels, wrong for a second image or a plain mask.

    >>> import torch
    >>> check_sample([torch.zeros(1, 3, 4), torch.tensor(7)], 2)  # an image and its label
    """
    arrays = [x for x in flat_inputs if isinstance(x, np.ndarray) and x.ndim >= num_spatial_dims]
    if arrays:
        raise TypeError(
            f"Expected tensors, but got a NumPy array of shape {arrays[0].shape}; put "
            f"`v2.ToImage()` before it, or use torch.from_numpy."
        )
    images = [_shape(x) for x in flat_inputs if isinstance(x, _IMAGES)]
    plain = [
        tuple(x.shape)
        for x in flat_inputs
        if isinstance(x, Tensor) and not isinstance(x, tv_tensors.TVTensor)
    ]
    image, *others = [*images[:1], *plain] or [()]
    for other in others if len(image) > num_spatial_dims else ():
        if other[-num_spatial_dims:] == image[-num_spatial_dims:]:
            raise TypeError(
                f"Expected one image, and masks as `tv_tensors.Mask`, but got a plain tensor of "
                f"shape {other} beside an image of shape {image}, which would not be moved along; "
                f"stack images to a batch."
            )


def _shape(image: Any) -> tuple[int, ...]:
    if isinstance(image, PIL.Image.Image):
        return (len(image.getbands()), image.height, image.width)
    return tuple(image.shape)
