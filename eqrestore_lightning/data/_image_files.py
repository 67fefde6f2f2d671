"""Image files: find, read and measure them."""

import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.files._reading import reading

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # EPS, say, would be run by Ghostscript
ENDINGS = (*IMG_EXTENSIONS, ".jfif", ".jpe")
"""How the names of images end that `find_images` finds, in lower case."""
_OTHERS = (
    *(".arw", ".avif", ".cr2", ".cr3", ".dng", ".eps", ".gif", ".heic", ".heif", ".ico", ".j2k"),
    *(".jp2", ".jxl", ".nef", ".orf", ".psd", ".raf", ".rw2", ".svg", ".tga"),
)
_SHOWN = 3


def find_images(folder: Path) -> list[Path]:
    """Return the images below a folder, at any depth, found by how their names end, sorted by path.

    Links to files are followed. What looks like an image but is not read is left out with a
    warning that names and counts it: other formats (`.heic`, `.gif`), macOS' files `._NAME`, links
    to folders. What is named like an image and cannot be read is for `read_image` to refuse.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Expected a folder of images, but found none at {folder.absolute()}."
        )
    found: list[Path] = []
    left_out: dict[str, list[Path]] = defaultdict(list)
    for parent, folders, names in os.walk(folder, onerror=_fail):
        links = [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
        if links:
            left_out["links to folders"] += links
        for path in (Path(parent, name) for name in names):
            ending = path.suffix.lower()
            if path.name.startswith("._"):
                left_out["._*"].append(path)
            elif ending in ENDINGS:
                found.append(path)
            elif ending in _OTHERS:
                left_out[ending].append(path)
    if left_out:
        warnings.warn(f"Left out below {folder}: {_counted(left_out)}.", stacklevel=1)
    if not found:
        raise FileNotFoundError(
            f"Expected images ending in {', '.join(ENDINGS)}, "
            f"but found none below {folder.absolute()}."
        )
    return sorted(found)


def _fail(error: OSError) -> None:
    raise error


def _counted(left_out: Mapping[str, Sequence[Path]]) -> str:
    parts = []
    for kind, paths in sorted(left_out.items()):
        names = ", ".join(path.name for path in sorted(paths)[:_SHOWN])
        parts.append(f"{len(paths):,} {kind} ({names}{', …' if len(paths) > _SHOWN else ''})")
    return "; ".join(parts)


def read_image(
    path: Path,
    *,
    grayscale: bool = False,
    image_size: int | tuple[int, int] | None = None,
    file: IO[bytes] | None = None,
) -> Tensor:
    """Decode one photograph or drawing, upright, as uint8 of shape `(channels, height, width)`.

    Palettes, bilevel images, CMYK and YCbCr are converted to RGB as Pillow does, without color
    profiles. Refused is what would lose something unnoticed: more than 8 bits per channel, pixels
    that are not opaque (an alpha channel that is opaque everywhere is dropped), and animations and
    documents of several pages; of a stereo JPEG (MPO), the first picture is the photograph. Sizes
    are known before anything is decoded: images of more than `PIL.Image.MAX_IMAGE_PIXELS` pixels,
    about 89 million, are refused.

    `image_size` is what `cut_window` cuts out, a number for a square; `file` is read instead of the
    file on disk, if given.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("RGB", (30, 20)).save(f"{folder}/cat.png")
    ...     read_image(Path(folder, "cat.png"), grayscale=True).shape
    torch.Size([1, 20, 30])
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    with _opened(path, file) as picture:
        PIL.ImageOps.exif_transpose(picture, in_place=True)
        if size is not None:
            _covering((picture.height, picture.width), size)  # before anything is decoded
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema() != (255, 255):
                raise ValueError("pixels that are not opaque; draw them over a background first")
        image: Tensor = TF.pil_to_tensor(picture.convert("L" if grayscale else "RGB"))
    return image if size is None else cut_window(image, size)


def cut_window(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut out the center of an image that was resized to the smallest size that holds it.

    >>> import torch
    >>> cut_window(torch.zeros(3, 20, 30), (8, 10)).shape
    torch.Size([3, 8, 10])
    """
    resized = TF.resize(image, _covering(image.shape[-2:], size), antialias=True)
    window: Tensor = TF.center_crop(resized, list(size))
    return window


def _covering(found: Sequence[int], window: Sequence[int]) -> list[int]:
    """Return the smallest size, in proportion, that holds a window: height and width.

    >>> _covering((20, 30), (10, 10))
    [10, 15]
    """
    (height, width), (high, wide) = found, window
    by_height = height * wide <= width * high
    size = [high, high * width // height] if by_height else [wide * height // width, wide]
    pixels = size[0] * size[1]
    if pixels > (PIL.Image.MAX_IMAGE_PIXELS or pixels):
        raise ValueError(
            f"{height:,} × {width:,} pixels (height × width), which would become {pixels:,} when "
            f"the image is resized to cover {high:,} × {wide:,}"
        )
    return size


def read_image_size(path: Path) -> tuple[int, int]:
    """Return height and width of what `read_image` would return, from the file's header alone."""
    with _opened(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(PIL.ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)  # swapped
    return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: Path, file: IO[bytes] | None = None) -> Iterator[PIL.Image.Image]:
    with reading(f"{path} to be a readable image"):
        if file is None:
            _check_file(path)
        with warnings.catch_warnings(action="ignore", category=PIL.Image.DecompressionBombWarning):
            picture = PIL.Image.open(file or path, formats=_FORMATS)
        with picture:
            _check(picture)
            yield picture


def _check_file(path: Path) -> None:
    """Refuse what is no file: opening a pipe would wait for somebody to write to it."""
    if not path.is_file() and (path.exists() or path.is_symlink()):
        raise ValueError("a link to nothing" if path.is_symlink() else "no file")
    if path.is_file() and not os.access(path, os.R_OK):
        raise ValueError("a file that may not be read")


def _check(picture: PIL.Image.Image) -> None:
    """Refuse what a tensor of 8 bits would not hold, before anything is decoded."""
    width, height = picture.size
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(
            f"{width:,} × {height:,} pixels, which is more than PIL.Image.MAX_IMAGE_PIXELS, "
            f"{limit:,}"
        )
    depths = [_raw_mode(tile) for tile in getattr(picture, "tile", ())]
    if picture.mode.startswith(("I", "F")) or any(depths):
        mode = (*filter(None, depths), picture.mode)[0]
        raise ValueError(f"more than 8 bits per channel ({mode})")
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise ValueError(f"{getattr(picture, 'n_frames', 'several')} images in one file")


def _raw_mode(tile: Any) -> str:
    """Return how pixels are stored, if Pillow would cut them to 8 bits; otherwise nothing."""
    codec, arguments = tile[0], tile[3]
    mode = arguments if isinstance(arguments, str) else str((*arguments, "")[0])
    if codec.startswith("ppm") and arguments[1] > 255:
        return f"{mode}, {arguments[1]}"
    return mode if ";16" in mode and not mode.startswith("BGR") else ""  # BGR;16 is 5, 6, 5 bits
