"""Theorem 4.5: an estimator that is computed, not trained, and correct on every image of a set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.nn import ShiftEstimator, register_estimator
from eqrestore_lightning.nn._base import check_spatial_size
from eqrestore_lightning.theory._binary import BinaryDecomposition
from eqrestore_lightning.theory._templates import (
    BATCH,
    TemplateEstimator,
    finite_images,
    read_integers,
)


@register_estimator
class ConstructedEstimator(ShiftEstimator):
    r"""Find each of a set of integer images, however shifted: `2 Q + 2` layers, no training.

    A `BinaryDecomposition`, then a `TemplateEstimator` of its bits. It computes exactly, and is
    correct on every image of the set under every shift; the cost is one hidden channel and
    `channels · Q · N` weights per image.

    Convention:
        Integer images are read as they are, floating ones as torchvision scales them: 0…1 stand for
        0…2^Q − 1, rounded. Entries out of range are clamped.

    Args:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis, pixels; one to three of them.
        num_templates: Number of images of the set.
        num_bits: Bits of an entry, `Q`, 1 to 16.

    Shapes:
        Input `(batch, in_channels, *spatial_size)`, any real dtype; output
        `(batch, *spatial_size)`.

    Raises:
        ValueError: If a number is out of range.

    Source: Theorem 4.5.

    >>> images = torch.tensor([[[7, 20, 0, 0, 9]], [[7, 21, 0, 0, 9]]], dtype=torch.uint8)
    >>> estimator = ConstructedEstimator.from_images(images)
    >>> estimator.exact_scores(images.roll(3, 2)).argmax(1)
    tensor([3, 3])
    """

    spatial_size: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        num_templates: int,
        num_bits: int = 8,
    ) -> None:
        super().__init__()
        check_spatial_size(spatial_size)
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.axes = tuple(range(-len(spatial_size), 0))
        self.num_bits = num_bits
        self.decomposition = BinaryDecomposition(
            in_channels, num_bits, num_spatial_dims=len(spatial_size)
        )
        self.templates = TemplateEstimator(
            in_channels * num_bits, spatial_size, num_templates=num_templates
        )

    @classmethod
    @torch.no_grad()
    def from_images(cls, images: Tensor, *, num_bits: int = 8) -> "ConstructedEstimator":
        """Compute the estimator of a set of images.

        Args:
            images: Shape `(num_images, channels, *spatial)`, integers from 0 to `2^num_bits − 1`.
                Exact duplicates are stored once.
            num_bits: Bits of an entry, 1 to 16.

        Returns:
            The estimator, float32, on the device of `images`.

        Raises:
            TypeError: If `images` does not hold integers.
            ValueError: If there are no images, an entry is out of range, the set is not aperiodic,
                or a weight exceeds 2^24; the message names the images.
        """
        if images.ndim < 3 or len(images) == 0:
            raise ValueError(
                f"Expected `images` to have shape (num_images, channels, *spatial) with at least "
                f"one image, but got {tuple(images.shape)}."
            )
        if images.is_floating_point():
            raise TypeError(f"Expected `images` to be integers, but got {images.dtype}.")
        lowest, highest = int(images.min()), int(images.max())
        if lowest < 0 or highest >= 2**num_bits:
            raise ValueError(
                f"Expected `images` to hold 0 to {2**num_bits - 1}, which have {num_bits} bits, "
                f"but got {lowest} to {highest}."
            )
        estimator = cls(images.shape[1], images.shape[2:], num_templates=1, num_bits=num_bits)
        estimator.to(images.device)
        bits = [estimator.decomposition(part.double()) for part in torch.split(images, BATCH)]
        estimator.templates = TemplateEstimator.from_images(torch.cat(bits).to(torch.uint8))
        return estimator

    @property
    @override
    def config(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "spatial_size": list(self.spatial_size),
            "num_templates": self.templates.num_templates,
            "num_bits": self.num_bits,
        }

    @override
    def scale_scores(self, factor: float) -> None:
        self.templates.scale_scores(factor)

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        values = read_integers(x, num_bits=self.num_bits)
        if not exact:
            return self.templates.score(self.decomposition(values), exact=False)
        bits = torch.cat([self.decomposition(part) for part in torch.split(values, BATCH)])
        return self.templates.score_bits(bits, finite_images(x))
