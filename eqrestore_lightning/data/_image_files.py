"""Image files: find, read and measure them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import PIL.Image
import PIL.ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data._orientation import ORIENTATION


def find_images(folder: Path) -> list[Path]:
    """Return the images below a folder, found by their extension, sorted by path.

    Args:
        folder: Where to look, at any depth.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in IMG_EXTENSIONS
    )


def read_image(
    path: Path,
    *,
    grayscale: bool = False,
    image_size: int | tuple[int, int] | None = None,
    file: IO[bytes] | None = None,
) -> Tensor:
    """Decode one image, upright according to its EXIF data.

    Args:
        path: The file.
        grayscale: Whether to return one channel instead of three.
        image_size: Height and width cut out of the center, pixels, after the image was resized to
            the smallest size that holds them; a number for a square, to which the shorter side is
            resized; `None` to leave the image unchanged.
        file: What to read instead of the file on disk; `path` is then only its name.

    Returns:
        uint8 of shape `(channels, height, width)`.

    Raises:
        ValueError: If the file is not a readable image, or has more than 8 bits per channel.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("RGB", (30, 20)).save(f"{folder}/cat.png")
    ...     read_image(Path(folder, "cat.png"), grayscale=True).shape
    torch.Size([1, 20, 30])
    """
    with _opened(path, file) as picture:
        upright = PIL.ImageOps.exif_transpose(picture)
        image: Tensor = TF.pil_to_tensor(upright.convert("L" if grayscale else "RGB"))
    if image_size is not None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        image = TF.center_crop(_cover(image, height, width), [height, width])
    return image


def _cover(image: Tensor, height: int, width: int) -> Tensor:
    """Resize an image, in proportion, to the smallest size that holds a window."""
    found_height, found_width = image.shape[-2:]
    wide = found_height * width <= found_width * height
    size = (
        [height, height * found_width // found_height]
        if wide
        else [width * found_height // found_width, width]
    )
    resized: Tensor = TF.resize(image, size, antialias=True)
    return resized


def read_image_size(path: Path) -> tuple[int, int]:
    """Return height and width of what `read_image` would return, from the file's header alone.

    Raises:
        ValueError: If the file is not a readable image, or has more than 8 bits per channel.
    """
    with _opened(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)  # axes swapped
    return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: Path, file: IO[bytes] | None = None) -> Iterator[PIL.Image.Image]:
    try:
        with PIL.Image.open(file or path) as picture:
            mode = picture.mode
            if not mode.startswith(("I", "F")):
                yield picture
                return
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"Expected {path} to be a readable image, but got: {error}") from error
    raise ValueError(f"Expected images of 8 bits per channel, but got mode {mode} in {path}.")


def check_folder(root: str | os.PathLike[str]) -> Path:
    """Return a path, after checking that it is a folder.

    Raises:
        FileNotFoundError: If it is not.
    """
    path = Path(root)
    if not path.is_dir():
        raise FileNotFoundError(
            f"Expected a folder of images, but found none at {path.absolute()}."
        )
    return path


def find_images_or_fail(folder: Path) -> list[Path]:
    """Return the images below a folder, at least one, sorted by path.

    Raises:
        FileNotFoundError: If there are none.
    """
    files = find_images(folder)
    if not files:
        raise FileNotFoundError(
            f"Expected images ending in {', '.join(IMG_EXTENSIONS)}, "
            f"but found none below {folder.absolute()}."
        )
    return files
