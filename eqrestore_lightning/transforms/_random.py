"""Move images at random."""

import math
from typing import Any

import torch
from torchvision.transforms import v2
from typing_extensions import override

from eqrestore_lightning.motions import Motion
from eqrestore_lightning.transforms._kernels import Move, move
from eqrestore_lightning.transforms._samples import check_sample, image_tensor, only_image


class RandomMotion(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Move every image by a motion of its own, drawn at random: what `RestoreTransform` undoes.

    Args:
        motion: What to draw from, such as `Shift(max_shift=4)` or `Product(Turn(), Shift())`.
        num_spatial_dims: Number of spatial axes: 1 for signals, 2 for images, 3 for volumes.
        generator: Source of randomness; the global generator of torch by default.

    Shapes:
        `(..., C, *spatial)`, any real dtype; shape, dtype and type are kept. Labels of bool and
        int64 are not mixed.

    Samples:
        As for `RestoreTransform`: one image or batch of images, of which each, and each frame of a
        video, moves by a motion of its own; masks, boxes and key points along with it; labels pass.
        A box that a circular shift moves across the border extends beyond it: its content enters on
        the other side. Points that leave the image, when it is turned or filled with zeros, lie
        outside; `v2.ClampBoundingBoxes()` and `v2.ClampKeyPoints()` move them to the border.

    Raises:
        TypeError: In `forward`, for NumPy arrays (use `v2.ToImage()` first), PIL images of other
            modes than `L` and `RGB`, a plain tensor of the image's size beside it, or boxes and key
            points if `motion` is of your own and does not move points.
        ValueError: If `num_spatial_dims` is out of range; in `forward`, if there is not exactly one
            image, the motion cannot move images of its size, or what belongs to it has another
            shape.

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

    @override
    def check_inputs(self, flat_inputs: list[Any]) -> None:
        check_sample(flat_inputs, self.num_spatial_dims)

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        image = image_tensor(only_image(flat_inputs))
        if image.ndim <= self.num_spatial_dims:
            raise ValueError(
                f"Expected images of shape (..., channels, *spatial) with "
                f"{self.num_spatial_dims} spatial axes, but got {tuple(image.shape)}."
            )
        spatial = tuple(image.shape[-self.num_spatial_dims :])
        self.motion.check(spatial)
        batch = tuple(image.shape[: -1 - self.num_spatial_dims])
        element = self.motion.draw(math.prod(batch), spatial, generator=self.generator)
        element = {name: value.to(image.device) for name, value in element.items()}
        return {"move": Move(self.motion, element, batch, self.num_spatial_dims, spatial)}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return move(inpt, params["move"])
