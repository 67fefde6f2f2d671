"""What `eqrestore fit` sees in images before it trains: which network, and what to warn of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eqrestore_lightning.data._image_files import find_images, read_image, read_image_size

_LOOKED_AT = 48  # images, spread over the folder
_BLANK = 8  # largest difference of values, of 255, in a border that counts as blank
_SEAM = 1.25  # steps across the border, over steps inside, below which an image seems to wrap


@dataclass(frozen=True)
class Look:
    """What images have in common.

    Attributes:
        sizes: Height and width of each image, pixels.
        gray: Whether all are gray.
        blank_border: Share of images whose outermost pixels have one color, while others differ.
        wrapped: Share of images that go on from one side to the other, as if they were shifted.
    """

    sizes: Sequence[tuple[int, int]]
    gray: bool
    blank_border: float
    wrapped: float

    @property
    def in_blank_border(self) -> bool:
        """Whether images are of objects on a blank background."""
        return self.blank_border > 0.8

    @property
    def seem_shifted(self) -> bool:
        """Whether many images seem to have been shifted already."""
        return self.wrapped > 0.5


def look_at(folder: Path, *, grayscale: bool) -> Look:
    """Look at images of a folder.

    Args:
        folder: Where they are, at any depth.
        grayscale: Whether to read one channel.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If one is not a readable image.
    """
    files = find_images(folder)
    sizes = [read_image_size(path) for path in files]
    images = [
        read_image(path, grayscale=grayscale) for path in files[:: -(-len(files) // _LOOKED_AT)]
    ]
    count = len(images)
    return Look(
        sizes,
        gray=all(bool((image == image[:1]).all()) for image in images),
        blank_border=sum(map(_has_blank_border, images)) / count,
        wrapped=sum(map(_wraps, images)) / count,
    )


def _has_blank_border(image: Tensor) -> bool:
    """Check whether the outermost pixels of an image have one color, while others differ."""
    sides = [image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
    frame, whole = torch.cat(sides, 1).int(), image.flatten(1).int()
    spread, inside = (values.amax(1) - values.amin(1) for values in (frame, whole))
    return int(spread.max()) <= _BLANK < int(inside.max())


def _wraps(image: Tensor) -> bool:
    """Check whether an image is smooth, and as smooth across its border as inside.

    >>> ramp = torch.arange(0, 240, 4).repeat(3, 40, 1)
    >>> _wraps(ramp), _wraps(ramp.roll(20, 2))
    (False, True)
    """
    values, found = image.float(), []
    for axis in (1, 2):
        steps = (values - values.roll(1, axis)).abs().mean((0, 3 - axis))
        far = (values - values.roll(values.shape[axis] // 2, axis)).abs().mean()
        inside = steps[1:].mean()
        if 0 < float(inside) < float(far) / 2:
            found.append(float(steps[0] / inside))
    return bool(found) and max(found) < _SEAM and not _has_blank_border(image)
