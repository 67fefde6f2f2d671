"""How `eqrestore restore` writes images, with what their sources say of colors and origin."""

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import PIL.Image
from PIL.ExifTags import Base
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.files._writing import whole_file

_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_SPACES = {1: b"GRAY", 3: b"RGB "}  # as ICC profiles name them, by number of channels
_DESCRIPTIVE = (  # tags of TIFF files that tell nothing of how pixels are stored
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.Copyright,
    Base.ExifOffset,
    Base.GPSInfo,
)


def write_image(path: Path, image: Tensor, *, source: Path) -> None:
    """Write an upright uint8 image in the format of a name, with its source's profile and EXIF."""
    name = PIL.Image.registered_extensions()[path.suffix.lower()]
    options = _OPTIONS.get(name, {}) | _kept(source, len(image))
    buffer = io.BytesIO()  # PIL would not tell why it failed to write
    TF.to_pil_image(image).save(buffer, name, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(buffer.getbuffer())


def copy_image(source: Path, path: Path) -> None:
    """Copy a file, byte for byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        shutil.copyfile(source, part)


def _kept(source: Path, num_channels: int) -> dict[str, Any]:
    """Return the color profile, if it is for that many channels, and EXIF data but orientation."""
    with PIL.Image.open(source) as picture:
        profile, exif = picture.info.get("icc_profile", b""), picture.getexif()
        is_tiff = picture.format == "TIFF"
        exif.pop(Base.Orientation, None)
        for tag in [tag for tag in exif if is_tiff and tag not in _DESCRIPTIVE]:
            del exif[tag]
        kept: dict[str, Any] = {}
        with contextlib.suppress(Exception):  # damaged EXIF data, of which PIL raises anything
            kept |= {"exif": exif.tobytes()} if len(exif) else {}
    if profile[16:20] == _SPACES.get(num_channels):
        kept["icc_profile"] = profile
    return kept
