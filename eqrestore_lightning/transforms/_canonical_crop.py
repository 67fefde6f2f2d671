"""Crop where the content is, not where the camera points."""

import math
from collections.abc import Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF
from typing_extensions import override

from eqrestore_lightning.transforms._samples import ALONG, check_sample, only_image

# The landmark is where this filter responds most strongly: blocks of 4 × 4 pixels with these
# weights. Each factor has mean zero, so brightness has no effect; blocks reduce that of noise and
# JPEG.
_BLOCK = 4
_ROWS = (1, 1, -3, 1)
_COLUMNS = (1, 1, -1, -1)
_PATCH = _BLOCK * len(_ROWS)
_LEVELS = 2**16 - 1  # levels between 0 and 1 to which floating pixels are rounded


class CanonicalCrop(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Crop each image at a place that its content decides: a drop-in for `v2.CenterCrop`.

    After the usual `v2.Resize(256)`, `v2.CenterCrop(224)` takes whichever pixels the camera put in
    the middle. This transform looks for a landmark instead, the patch of 16 × 16 pixels at which a
    fixed filter responds most strongly, and crops one of the windows that lie a multiple of `step`
    pixels from it: the one nearest to the center. When the camera moves by a few pixels, the
    landmark moves along and so do these windows; the crop **contains the same pixels** as long as
    the window is in range and no stronger landmark enters the image. When the window leaves the
    range, the next one is `step` pixels away: with a multiple of the classifier's total stride (32
    for almost all networks) its convolutions still see every pixel in the same phase.

    Shifts of up to `m` pixels along an axis keep the window with a probability of about
    `1 − m / (2 step)`; no choice among windows within `step` pixels does better. The landmark is
    found in integer arithmetic: equal pixels give equal scores wherever they lie, on every device,
    so that moves by whole pixels are followed exactly. In pictures that were compressed again, or
    moved by a fraction of a pixel, the landmark is often found again but not always, see the table
    of `recipes/canonical_crop.py`.

    Args:
        size: Height and width of the crop, pixels; one number for a square.
        step: Distance between the windows to choose from, pixels. The crop lies at most about
            `step / 2` from the center; on an axis with fewer than `step - 1` pixels to spare, every
            position is a candidate. Larger steps keep the window more often, if the image has the
            pixels to spare.

    Shapes:
        `(..., C, H, W)` of any real dtype, `tv_tensors.Image` or a PIL image, each image of a batch
        with its own window; the frames of a `tv_tensors.Video` too. A `tv_tensors.Mask` is cropped
        along with its image or batch of images; `tv_tensors.BoundingBoxes` and
        `tv_tensors.KeyPoints` along with one image. Labels pass through. Along an axis on which an
        image is smaller than the crop it is padded with zeros on both sides, as `v2.CenterCrop`
        does.

    Raises:
        TypeError: In `forward`, if the image is complex.
        ValueError: If `size` or `step` is out of range; in `forward` if a sample has not exactly
            one image (or batch), if what is cropped along with it has another size, or if a window
            is to be chosen in an image of fewer than 16 pixels along an axis.

    >>> import torch
    >>> crop = CanonicalCrop(24, step=8)
    >>> scene = torch.randint(0, 256, (3, 60, 70), generator=torch.Generator().manual_seed(5))
    >>> still, moved = scene[:, 10:50, 10:50], scene[:, 13:53, 8:48]  # 3 pixels down, 2 left
    >>> crop.find(still), crop.find(moved)
    (tensor([9, 9]), tensor([ 6, 11]))
    >>> torch.equal(crop(still), crop(moved))
    True
    """

    def __init__(self, size: int | Sequence[int], *, step: int = 32) -> None:
        super().__init__()
        sizes = (size,) if isinstance(size, int) else tuple(size)
        if len(sizes) not in (1, 2) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(f"Expected `size` to be one or two numbers above 0, but got {size}.")
        if step < 1:
            raise ValueError(f"Expected `step` to be at least 1, but got {step}.")
        self.size = (sizes[0], sizes[-1])
        self.step = step

    @torch.no_grad()
    def find(self, x: Tensor) -> Tensor:
        """Find the window of each image.

        Args:
            x: Images of shape `(..., C, H, W)`, any real dtype.

        Returns:
            Top and left of each window, pixels, int64 of shape `(..., 2)` on the device of `x`;
            negative along an axis on which the image is smaller than the crop. The window nearest
            to the center where an image is uniform.

        Raises:
            TypeError: If `x` is complex.
            ValueError: If `x` has another rank, or fewer than 16 pixels along an axis while there
                is a window to choose.
        """
        _check_image(x)
        plain = x.as_subclass(Tensor).flatten(0, -4) if x.ndim > 3 else x.as_subclass(Tensor)[None]
        height, width = x.shape[-2:]
        spare = (height - self.size[0], width - self.size[1])
        if max(spare) > 0 and plain.numel() > 0:
            landmark, found = _landmark(plain)
        else:
            landmark = torch.zeros(len(plain), 2, dtype=torch.int64, device=x.device)
            found = landmark[:, 0].bool()
        corner = [_nearest(landmark[:, axis], found, spare[axis], self.step) for axis in range(2)]
        return torch.stack(corner, 1).reshape(*x.shape[:-3], 2)

    @override
    def check_inputs(self, flat_inputs: list[Any]) -> None:
        check_sample(flat_inputs, 2)

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        image = only_image(flat_inputs)
        if isinstance(image, PIL.Image.Image):
            image = TF.pil_to_tensor(image)
        corners = self.find(image).reshape(-1, 2).tolist()
        for leaf in flat_inputs:
            if isinstance(leaf, ALONG):
                _check_along(leaf, tuple(image.shape[-2:]), len(corners))
        return {"corners": corners}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        corners = params["corners"]
        if not isinstance(inpt, Tensor) or isinstance(
            inpt, tv_tensors.BoundingBoxes | tv_tensors.KeyPoints
        ):
            return TF.crop(inpt, *corners[0], *self.size)
        plain = inpt.as_subclass(Tensor)
        maps = plain.shape[:-2]
        if not corners:
            cropped = plain.new_zeros(*maps, *self.size)
        else:  # one entry for each window: the channels of an image, or all maps of its mask
            flat = plain.reshape(len(corners), -1, *plain.shape[-2:])
            windows = zip(flat, corners, strict=True)
            cropped = torch.stack([TF.crop(each, *corner, *self.size) for each, corner in windows])
            cropped = cropped.reshape(*maps, *self.size)
        return tv_tensors.wrap(cropped, like=inpt) if plain is not inpt else cropped


def _landmark(x: Tensor) -> tuple[Tensor, Tensor]:
    """Find the top left of the first patch of largest response, and whether that is above 0."""
    if min(x.shape[-2:]) < _PATCH:
        raise ValueError(
            f"Expected images of at least {_PATCH} × {_PATCH} pixels to choose a window in, "
            f"but got {tuple(x.shape[-2:])}."
        )
    if x.is_floating_point():
        x = (x.float() * _LEVELS).nan_to_num(0.0, 0.0, 0.0).clamp(-(2.0**31), 2.0**31).round()
    scores = x.to(torch.int64).sum(1)
    for axis, weights in ((1, _ROWS), (2, _COLUMNS)):
        scores = _slide(scores, axis, weights)
    best, index = scores.flatten(1).max(1)
    width = scores.shape[2]
    return torch.stack([index // width, index % width], 1), best > 0


def _slide(x: Tensor, axis: int, weights: Sequence[int]) -> Tensor:
    """Correlate integers with blocks of weights along one axis, where all of them fit."""
    size = x.shape[axis] - _BLOCK + 1
    blocks = x.narrow(axis, 0, size).clone()
    for offset in range(1, _BLOCK):
        blocks += x.narrow(axis, offset, size)
    size -= _BLOCK * (len(weights) - 1)
    response = torch.zeros_like(blocks.narrow(axis, 0, size))
    for number, weight in enumerate(weights):
        response += weight * blocks.narrow(axis, number * _BLOCK, size)
    return response


def _nearest(landmark: Tensor, found: Tensor, spare: int, step: int) -> Tensor:
    """Return where the window nearest to the center starts along an axis with pixels to spare."""
    if spare <= 0:
        return torch.full_like(landmark, -(-spare // 2))
    step = min(step, spare + 1)
    first = (spare + 1 - step) // 2
    return torch.where(found, first + (landmark - first) % step, round(spare / 2))


def _check_image(x: Tensor) -> None:
    if x.ndim < 3:
        raise ValueError(f"Expected images of shape (..., C, H, W), but got {tuple(x.shape)}.")
    if x.is_complex():
        raise TypeError(f"Expected images of a real dtype, but got {x.dtype}.")


def _check_along(leaf: Any, size: tuple[int, ...], num_images: int) -> None:
    """Check that what comes along with the images lies on the same pixels."""
    name = type(leaf).__name__
    mask = isinstance(leaf, tv_tensors.Mask)
    found = tuple(leaf.shape[-2:]) if mask else tuple(leaf.canvas_size)
    if found != size:
        raise ValueError(f"Expected {name} of the image's size {size}, but got {found}.")
    if not mask and num_images != 1:
        raise ValueError(f"Expected one image along with {name}, but got {num_images}.")
    if mask and math.prod(leaf.shape[:-2]) % max(num_images, 1):
        raise ValueError(
            f"Expected a mask for each of {num_images} images, but got {tuple(leaf.shape)}."
        )
