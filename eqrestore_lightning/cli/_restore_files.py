"""Image files of `eqrestore restore`: read, why they cannot be restored, and written."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import PIL.Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data import read_image
from eqrestore_lightning.files import whole_file
from eqrestore_lightning.nn import Estimator

Read: TypeAlias = Tensor | Exception

_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_SHOWN = 3  # files in a message


@dataclass(frozen=True)
class ImageFiles(Dataset[Read]):
    """Images read from their files, or the reasons why they cannot be restored.

    Args:
        files: Their paths.
        estimator: What they have to fit.
        size: Height and width to resize them to, pixels; `None` to leave them as they are.
    """

    files: Sequence[Path]
    estimator: Estimator
    size: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Read:
        try:
            return self._read(self.files[position])
        except (OSError, ValueError) as error:  # raised in another process, it would lose its line
            return error

    def problem(self, position: int) -> str | None:
        """Return why an image cannot be restored, if it cannot."""
        found = self[position]
        return " ".join(str(found).split()) if isinstance(found, Exception) else None

    def _read(self, path: Path) -> Tensor:
        estimator = self.estimator
        image = read_image(path, grayscale=estimator.in_channels == 1, image_size=self.size)
        expected, size = estimator.spatial_size, tuple(image.shape[1:])
        if expected is not None and size != expected:
            raise ValueError(
                f"Expected images of {_product(expected)} pixels (height × width), for which the "
                f"weights were made, but got {_product(size)} in {path}; "
                f'`--resize "{expected[0]} {expected[1]}"` resizes them.'
            )
        try:
            estimator.check_input(image.unsqueeze(0))
            estimator.motion.check(size)
        except ValueError as error:
            raise ValueError(f"Expected {path} to fit the weights, but got: {error}") from error
        return image


@dataclass(frozen=True)
class Problems(Dataset[str | None]):
    """Why images at some positions cannot be restored."""

    images: ImageFiles
    positions: Sequence[int]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, place: int) -> str | None:
        if place >= len(self):
            raise IndexError(place)
        return self.images.problem(self.positions[place])


def write_image(path: Path, image: Tensor) -> None:
    """Write an image in the format that the name of its file tells."""
    name = PIL.Image.registered_extensions()[path.suffix.lower()]
    buffer = io.BytesIO()  # PIL would not tell why it failed to write
    TF.to_pil_image(image).save(buffer, name, **_OPTIONS.get(name, {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(buffer.getbuffer())


def summary(reasons: Sequence[str]) -> str:
    """Return a message that tells why files cannot be restored, the first ones of many."""
    more = f"{len(reasons)} files cannot be restored. " if len(reasons) > 1 else ""
    rest = f" (and {len(reasons) - _SHOWN} more)" if len(reasons) > _SHOWN else ""
    return f"{more}{' '.join(reasons[:_SHOWN])}{rest} `--skip_bad true` leaves such files out."


def _product(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))
