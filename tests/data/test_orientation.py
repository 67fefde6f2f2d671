"""The EXIF orientation of JPEG files."""

import io
import struct

import PIL.Image
import PIL.ImageOps
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data import ORIENTATION, read_image, set_orientation, turned_orientation

NO_EXIF, NO_TAG = "no EXIF data", "EXIF data without orientation"


def _jpeg(orientation):
    picture = TF.to_pil_image(torch.randint(0, 256, (3, 24, 40), dtype=torch.uint8))
    exif = PIL.Image.Exif()
    exif[0x010F] = "maker"
    if orientation != NO_TAG:
        exif[ORIENTATION] = 1 if orientation == NO_EXIF else orientation
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **({} if orientation == NO_EXIF else {"exif": exif}))
    return buffer.getvalue()


def _shown(jpeg, tmp_path):
    path = tmp_path / "shown.jpg"
    path.write_bytes(jpeg)
    return read_image(path)


@pytest.mark.parametrize("quarters", range(-1, 5))
@pytest.mark.parametrize("orientation", [*range(1, 9), NO_EXIF, NO_TAG])
def test_photographs_are_shown_turned_and_pixels_stay(orientation, quarters, tmp_path):
    jpeg = _jpeg(orientation)
    before = orientation if isinstance(orientation, int) else 1
    turned = set_orientation(jpeg, turned_orientation(before, quarters))
    expected = torch.rot90(_shown(jpeg, tmp_path), quarters, (1, 2))
    assert torch.equal(_shown(turned, tmp_path), expected)
    scan = jpeg.index(b"\xff\xda")
    assert turned.endswith(jpeg[scan:])
    if isinstance(orientation, int):
        assert len(turned) == len(jpeg)
        assert sum(a != b for a, b in zip(jpeg, turned, strict=True)) <= 1
    if orientation != NO_EXIF:
        assert PIL.Image.open(io.BytesIO(turned)).getexif()[0x010F] == "maker"


def test_unknown_orientations_count_as_none():
    assert turned_orientation(0, 1) == turned_orientation(1, 1) == 8
    assert turned_orientation(9, 0) == 1


def test_big_endian_exif_is_changed_in_place():
    jpeg = _jpeg(3)
    entry = struct.pack(">HHIHH", ORIENTATION, 3, 1, 3, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + b"\0\0\0\0"
    content = b"Exif\0\0" + tiff
    jpeg = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]
    turned = set_orientation(jpeg, 6)
    assert PIL.Image.open(io.BytesIO(turned)).getexif()[ORIENTATION] == 6
    assert len(turned) == len(jpeg)


@pytest.mark.parametrize(
    ("content", "orientation", "message"),
    [
        (b"\x89PNG", 1, "Expected a JPEG file, but it does not begin like one."),
        (b"\xff\xd8\xff\xe0\x00", 1, "Expected a whole JPEG file, but its segments end too early."),
        (b"\xff\xd8", 1, "Expected a whole JPEG file, but its segments end too early."),
        (b"\xff\xd8\xff\xd9", 9, "Expected `orientation` to be from 1 to 8, but got 9."),
    ],
)
def test_rejections(content, orientation, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        set_orientation(content, orientation)
