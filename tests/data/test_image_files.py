"""Which images are read, how, and which are refused."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data._image_files import find_images, read_image, read_image_size

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
PICTURE = PIL.Image.fromarray(PIXELS)


@pytest.fixture
def read(tmp_path):
    """Save a picture, and read it again."""

    def save_and_read(picture, ending="png", *, options=None, **save):
        path = tmp_path / f"x.{ending}"
        picture.save(path, **save)
        image = read_image(path, **(options or {}))
        if not options:
            assert tuple(image.shape[1:]) == read_image_size(path)
        return image

    return save_and_read


def _refused(content, told, folder, **options):
    path = folder / "x.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^Expected .*x.png to be a readable image, but .*{told}"):
        read_image(path, **options)


def _file(picture, format_, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def _png(width, height, data=b"", *, depth=8, color=2, more=b""):
    def chunk(kind, content):
        checked = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checked)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + (chunk(b"zTXt", more) if more else b"") + body


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "ppm"])
def test_pixels_are_those_of_the_file(ending, read):
    image = read(PICTURE, ending)
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(PIXELS).permute(2, 0, 1))
    assert torch.equal(read(PICTURE, ending, options={"grayscale": True})[0], _gray(PICTURE))


def _gray(picture):
    return torch.from_numpy(np.array(picture.convert("L")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA"])
def test_other_modes_are_converted_as_pillow_does(mode, read):
    picture = PICTURE.convert(mode)  # opaque, if it has an alpha channel
    image = read(picture, "tif" if mode == "CMYK" else "png")
    expected = np.array(picture.convert("RGB"))
    assert torch.equal(image, torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_a_pixel_is_an_image(size, read):
    image = read(PIL.Image.new("RGB", size, (3, 4, 5)))
    assert image.flatten(1).unique(dim=1).flatten().tolist() == [3, 4, 5]
    assert image.shape == (3, *size[::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_exif_is_undone(orientation, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.png"
    PICTURE.save(path, exif=exif)
    with PIL.Image.open(path) as picture:
        expected = np.array(PIL.ImageOps.exif_transpose(picture))
    assert torch.equal(read_image(path), torch.from_numpy(expected).permute(2, 0, 1))
    assert read_image_size(path) == expected.shape[:2]


def test_the_first_of_a_stereo_pair_is_the_photograph(read):
    other = PIL.Image.new("RGB", PICTURE.size, "red")
    pair = read(PICTURE, "jpg", format="MPO", save_all=True, append_images=[other], quality=95)
    assert torch.equal(pair, read(PICTURE, "jpg", quality=95))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
def test_several_images_in_one_file_are_refused(format_, tmp_path):
    more = [PIL.Image.new("RGB", PICTURE.size, color) for color in ("red", "blue")]
    content = _file(PICTURE, format_, save_all=True, append_images=more)
    _refused(content, "got: 3 images in one file", tmp_path)
    _refused(_file(PICTURE, "GIF", save_all=True, append_images=more), "cannot identify", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        _png(2, 1, b"\0" + bytes(12), depth=16),
        _png(2, 1, b"\0" + bytes(4), depth=16, color=0),
        _png(2, 1, b"\0" + bytes(16), depth=16, color=6),
        _file(PIL.Image.new("F", (3, 2)), "TIFF"),
        _file(PIL.Image.new("I;16", (3, 2)), "TIFF"),
        b"P6 2 1 65535\n" + bytes(12),
        b"P3 1 1 300\n1 2 3\n",
    ],
    ids=["RGB", "L", "RGBA", "float", "I;16", "PPM", "plain PPM"],
)
def test_more_than_8_bits_are_not_cut_off(content, tmp_path):
    _refused(content, "got: more than 8 bits per channel", tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_pixels_that_are_not_opaque_are_refused(mode, tmp_path):
    picture = PICTURE.convert("RGBA")
    picture.putpixel((6, 4), (0, 0, 0, 254))
    _refused(_file(picture.convert(mode), "PNG"), "got: pixels that are not opaque", tmp_path)
    palette = _file(PICTURE.convert("P"), "PNG", transparency=PICTURE.convert("P").getpixel((0, 0)))
    _refused(palette, "got: pixels that are not opaque", tmp_path)


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    _refused(_png(20_000, 30_000), r"600000000 pixels\) exceeds limit", tmp_path)
    _refused(_png(9_000, 10_000), "got: 9,000 × 10,000 pixels, which is more than PIL", tmp_path)
    text = b"Comment\0\0" + zlib.compress(bytes(70_000_000))
    _refused(_png(1, 1, bytes(4), more=text), "got: ", tmp_path)
    thin = _file(PIL.Image.new("L", (1, 50_000)), "PNG")
    _refused(thin, r"which would become 204,800,000 when the image", tmp_path, image_size=64)
    (tmp_path / "x.png").write_bytes(thin)
    assert read_image(tmp_path / "x.png", image_size=4).shape == (3, 4, 4)


def test_errors_of_the_machine_are_not_those_of_the_image(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "no.png")
    PICTURE.save(tmp_path / "x.png")
    for error in (MemoryError, TimeoutError):
        monkeypatch.setattr("PIL.Image.open", _raises(error()))
        with pytest.raises(error):
            read_image(tmp_path / "x.png")


def _raises(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


def test_images_are_found_at_any_depth_and_through_links_to_files(tmp_path):
    folder = tmp_path / "x.png"  # a folder, which is none
    folder.mkdir()
    for name in ("ü $(x).png", "-.JPG", "new\nline.tif", os.fsdecode(b"caf\xe9.png")):
        PICTURE.save(folder / name, "PNG")
    PICTURE.save(tmp_path / "other", "PNG")
    (folder / "link.png").symlink_to(tmp_path / "other")
    (folder / "text.txt").symlink_to(tmp_path / "nothing")  # not named like an image
    found = find_images(tmp_path)
    assert len(found) == 5
    assert found == sorted(found)
    assert all(torch.equal(read_image(path), read_image(found[0])) for path in found)


def test_what_is_not_read_is_left_out_and_counted(tmp_path):
    PICTURE.save(tmp_path / "a.jfif", "JPEG")
    (tmp_path / "b").mkdir()
    PICTURE.save(tmp_path / "b" / "c.JPE", "JPEG")
    assert [path.name for path in find_images(tmp_path)] == ["a.jfif", "c.JPE"]
    for name in ("1.heic", "2.HEIC", "3.heic", "b/4.heic", "x.gif", "._a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="Left out below") as warned:
        assert [path.name for path in find_images(tmp_path)] == ["a.jfif", "c.JPE"]
    assert str(warned[0].message) == (
        f"Left out below {tmp_path}: 1 ._* (._a.png); 1 .gif (x.gif); "
        f"4 .heic (1.heic, 2.HEIC, 3.heic, …); 1 links to folders (loop)."
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.symlink_to("nothing"), "a link to nothing"),
        (lambda path: path.symlink_to(path), "a link to nothing"),
        (os.mkfifo, "no file"),
        (os.mkdir, "no file"),
    ],
)
def test_what_is_no_file_is_refused_without_waiting_for_it(make, told, tmp_path):
    path = tmp_path / "x.png"
    make(path)
    for read_it in (read_image, read_image_size):
        with pytest.raises(ValueError, match=f"x.png to be a readable image, but got: {told}"):
            read_it(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "x.png")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)  # root may read all
    with pytest.raises(ValueError, match=r"x\.png to be .* got: a file that may not be read"):
        read_image(tmp_path / "x.png")


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images ending in \.jpg, .* none below"):
        find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected a folder of images, but found none at"):
        find_images(Path(tmp_path, "missing"))


@pytest.fixture
def photo(tmp_path):
    pixels = torch.randint(0, 256, (3, 41, 67), dtype=torch.uint8)
    TF.to_pil_image(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("side", [1, 24, 41, 80])
def test_a_number_is_the_side_of_a_square_cut_from_the_shorter_side(side, photo):
    expected = TF.center_crop(TF.resize(read_image(photo), [side], antialias=True), [side])
    assert torch.equal(read_image(photo, image_size=side), expected)
    assert torch.equal(read_image(photo, image_size=(side, side)), expected)


@pytest.mark.parametrize("size", [(20, 60), (60, 20), (41, 67), (30, 30), (100, 120)])
def test_the_window_is_covered_and_no_side_is_larger_than_needed(size, tmp_path):
    height, width = 40, 64
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[0] = torch.linspace(0, 255, height).round().to(torch.uint8)[:, None]
    pixels[1] = torch.linspace(0, 255, width).round().to(torch.uint8)
    TF.to_pil_image(pixels).save(tmp_path / "ramps.png")
    image = read_image(tmp_path / "ramps.png", image_size=size)
    assert image.shape == (3, *size)
    down, right = ((channel.max() - channel.min()).item() / 255 for channel in image[:2])
    seen = (size[0] / height, size[1] / width)  # the smaller one is cut to its part of the other
    assert max(down, right) > 0.9
    assert down / right == pytest.approx(seen[0] / seen[1], rel=0.12)


def test_what_is_stored_sideways_is_resized_upright(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "side.jpg", exif=exif)
    assert read_image(tmp_path / "side.jpg", image_size=(15, 10)).shape == (3, 15, 10)
