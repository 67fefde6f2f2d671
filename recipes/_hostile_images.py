"""Images that were made to do harm, or that a tensor cannot hold as they are."""

import functools
import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import PIL.Image
from _hostile_weights import Maker, payloads
from _tried import CANARY, Kind

from eqrestore_lightning import ImageFolderDataModule
from eqrestore_lightning.data import read_image, read_image_size


def image_kinds() -> list[Kind]:
    """Return kinds of images that must be refused."""
    makers: dict[str, Maker] = {
        "claims of up to 10^18 pixels": _image_bomb,
        "bombs in text and color profiles": _chunk_bomb,
        "thin ones that resizing makes enormous": _thin,
        "cut, empty, or of no pixels": _cut_image,
        "text, SVG, programs for a printer": _no_image,
        "several in one file": _animated,
        "more than 8 bits per channel": _deep,
        "transparent": _transparent,
    }
    return [Kind(f"image, {name}", make, _load_image) for name, make in makers.items()] + [
        Kind("folder with links, loops, pipes", _odd_folder, _load_folder)
    ]


def _load_image(path: Path) -> object:
    read_image(path, image_size=64 if "thin" in path.name else None)
    return read_image_size(path)


def _load_folder(path: Path) -> object:
    return len(ImageFolderDataModule(path, batch_size=1).dataset("train"))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(
    width: int, height: int, *, depth: int = 8, color: int = 2, data: bytes = b"", more: bytes = b""
) -> bytes:
    """Return a PNG file of any claims."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more
        + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    )  # fmt: skip


def write(folder: Path, name: str, content: bytes) -> Path:
    """Write a file into a folder, and return its path."""
    (folder / name).write_bytes(content)
    return folder / name


def saved(format_: str, picture: PIL.Image.Image, **options: Any) -> bytes:
    """Return the file of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def _image_bomb(random: Random, folder: Path) -> Path:
    width, height = (random.randint(14_000, 2**31 - 1) for _ in range(2))
    small = saved("TIFF", PIL.Image.new("RGB", (3, 2)))
    tiff = small.replace(struct.pack("<HHII", 256, 4, 1, 3), struct.pack("<HHII", 256, 4, 1, width))
    tiff = tiff.replace(struct.pack("<HHII", 257, 4, 1, 2), struct.pack("<HHII", 257, 4, 1, height))
    bmp = saved("BMP", PIL.Image.new("RGB", (3, 2)))
    jpeg = bytearray(saved("JPEG", PIL.Image.new("RGB", (3, 2))))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, random.randint(14_000, 65_000))
    contents = {
        "x.png": png(width, height),
        "x.bmp": bmp[:18] + struct.pack("<ii", width, height) + bmp[26:],
        "x.ppm": f"P6 {width} {height} 255\n".encode() + bytes(99),
        "x.tif": tiff,
        "x.jpg": bytes(jpeg),
    }
    name = random.choice(list(contents))
    return write(folder, name, contents[name])


@functools.cache
def _compressed_zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 2**20))


def _chunk_bomb(random: Random, folder: Path) -> Path:
    """Hide a text or a color profile of 65 to 200 MB; the picture itself is good."""
    zeros = _compressed_zeros(random.choice([65, 200]))
    chunk = random.choice(
        [
            _chunk(b"zTXt", b"Comment\0\0" + zeros),
            _chunk(b"iTXt", b"Comment\0\x01\0\0\0" + zeros),
            _chunk(b"iCCP", b"profile\0\0" + zeros),
        ]
    )
    return write(folder, "x.png", png(2, 1, data=bytes(7), more=chunk))


def _thin(random: Random, folder: Path) -> Path:
    length = random.randint(40_000, 80_000)
    size = random.choice([(1, length), (length, 1)])
    return write(folder, "thin.png", saved("PNG", PIL.Image.new("RGB", size)))


def _cut_image(random: Random, folder: Path) -> Path:
    generator = np.random.default_rng(random.randrange(2**32))
    picture = PIL.Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    format_ = random.choice(["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
    whole = saved(format_, picture)
    cut = whole[: random.randrange(len(whole) // 2)]
    empty = random.choice([png(0, 5), png(5, 0), b"P6 0 5 255\n", b""])
    return write(folder, "x.png", random.choice([cut, cut, cut, empty]))


def _no_image(random: Random, folder: Path) -> Path:
    canary = folder.parent / CANARY
    printer = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file\n"
    contents = [
        b"no image",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        printer.encode(),
        b"%PDF-1.4\n1 0 obj\n",
        b"#!/bin/sh\ntouch " + str(canary).encode(),
        b"BM",
        random.randbytes(random.randrange(2_000)),
        *(saved(f, PIL.Image.new("RGB", (9, 9))) for f in ("ICO", "TGA", "PCX", "SGI", "PDF")),
        pickle.dumps(random.choice(payloads(canary))),
    ]
    return write(folder, f"x{random.choice(['.png', '.jpg', '.tif'])}", random.choice(contents))


def _animated(random: Random, folder: Path) -> Path:
    frames = [PIL.Image.new("RGB", (9, 8), (60 * n, 9, 99)) for n in range(random.randint(2, 5))]
    format_ = random.choice(["PNG", "GIF", "TIFF", "WEBP"])
    content = saved(format_, frames[0], save_all=True, append_images=frames[1:])
    return write(folder, f"x.{format_.lower()}", content)


def _deep(random: Random, folder: Path) -> Path:
    color, channels = random.choice([(0, 1), (2, 3), (4, 2), (6, 4)])
    width = random.randint(1, 9)
    row = b"\0" + b"".join(random.randbytes(2) for _ in range(width * channels))
    contents = [
        png(width, 1, depth=16, color=color, data=row),
        saved("TIFF", PIL.Image.new("F", (width, 2))),
        saved("TIFF", PIL.Image.new("I;16", (width, 2))),
        saved("TIFF", PIL.Image.new("I", (width, 2))),
        f"P6 {width} 1 65535\n".encode() + bytes(6 * width),
        f"P3 1 1 {random.randint(256, 65_535)}\n1 2 3\n".encode(),
        b"Pf 2 1 -1.0\n" + bytes(8),
    ]
    return write(folder, "x.png", random.choice(contents))


def _transparent(random: Random, folder: Path) -> Path:
    picture = PIL.Image.new("RGBA", (9, 8), (10, 20, 30, 255))
    picture.putpixel((random.randrange(9), random.randrange(8)), (1, 2, 3, random.randrange(255)))
    mode = random.choice(["RGBA", "LA"])
    palette = PIL.Image.new("P", (9, 8))
    contents = [
        saved("PNG", picture.convert(mode)),
        saved("WEBP", picture, lossless=True),
        saved("TIFF", picture),
        saved("PNG", palette, transparency=0),
        saved("PNG", PIL.Image.new("RGB", (3, 3)), transparency=(0, 0, 0)),
        saved("PNG", PIL.Image.new("L", (3, 3)), transparency=0),
    ]
    return write(folder, "x.png", random.choice(contents))


def _odd_folder(random: Random, folder: Path) -> Path:
    root = folder / "images"
    for number in range(10):
        (root / "a").mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (9, 8), (number, 0, 0)).save(root / "a" / f"{number}.png")
    place = root / random.choice(["a", "b"]) / f"{random.choice(['é', 'x y', '-x', '$(x)'])}.png"
    place.parent.mkdir(exist_ok=True)
    choice = random.randrange(4)
    if choice == 0:
        place.symlink_to(root / "nothing")
    elif choice == 1:
        place.symlink_to(place)
    elif choice == 2:
        os.mkfifo(place)
    else:
        place.with_name("link").symlink_to(random.choice([root, root.parent, Path("/etc")]))
    return root
