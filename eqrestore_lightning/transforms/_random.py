"""Move images at random."""

import math
from typing import Any

import torch
from torchvision.transforms import v2

from eqrestore_lightning.motions import Motion
from eqrestore_lightning.transforms._samples import (
    check_sample,
    flatten_maps,
    holds_labels,
    only_image,
    plain,
    wrap_like,
)


class RandomMotion(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Move every image by a motion of its own, drawn at random: what `RestoreTransform` undoes.

    Args:
        motion: What to draw from, such as `Shift(max_shift=4)` or `Product(Turn(), Shift())`.
        num_spatial_dims: Number of spatial axes: 1 for signals, 2 for images, 3 for volumes.
        generator: Source of randomness; the global generator of torch by default.

    Shapes:
        `(..., C, *spatial)`, any real dtype; shape, dtype and type are kept. In a sample such as
        `(image, label)` the label passes through; a `tv_tensors.Mask` of shape
        `(..., *maps, *spatial)` moves along; its labels, and those of bool and int64, are not
        mixed.

    Raises:
        TypeError: In `forward`, for PIL images (use `v2.ToImage()` first), bounding boxes or key
            points.
        ValueError: If `num_spatial_dims` is out of range; in `forward`, if there is not exactly one
            image, the motion cannot move images of its size, or a mask has another shape.

    >>> from eqrestore_lightning.motions import Shift
    >>> image = torch.arange(12).reshape(1, 3, 4)
    >>> RandomMotion(Shift(max_shift=1))(image).sort().values.shape
    torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        motion: Motion,
        *,
        num_spatial_dims: int = 2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_spatial_dims <= 3:
            raise ValueError(
                f"Expected `num_spatial_dims` to be from 1 to 3, but got {num_spatial_dims}."
            )
        self.motion = motion
        self.num_spatial_dims = num_spatial_dims
        self.generator = generator

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse samples of which only a part would be moved."""
        check_sample(flat_inputs, self.num_spatial_dims)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw a motion for each image."""
        image = only_image(flat_inputs)
        if image.ndim <= self.num_spatial_dims:
            raise ValueError(
                f"Expected images of shape (..., channels, *spatial) with "
                f"{self.num_spatial_dims} spatial axes, but got {tuple(image.shape)}."
            )
        spatial = tuple(image.shape[-self.num_spatial_dims :])
        self.motion.check(spatial)
        batch = tuple(image.shape[: -1 - self.num_spatial_dims])
        element = self.motion.draw(math.prod(batch), spatial, generator=self.generator)
        return {
            "element": {name: value.to(image.device) for name, value in element.items()},
            "batch": batch,
            "spatial": spatial,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Move one image, or the mask that belongs to it."""
        motion = self.motion.for_labels() if holds_labels(inpt) else self.motion
        flat = flatten_maps(plain(inpt), params["batch"], params["spatial"])
        moved = motion.apply(flat, params["element"])
        return wrap_like(moved.reshape(inpt.shape), like=inpt)
