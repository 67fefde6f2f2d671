"""Images, signals, volumes and archives: damaged, with code in them, or not what they claim."""

import io
import pickle
import struct
import tarfile
import zlib

import hypothesis.strategies as st
import numpy as np
import PIL.Image
import pytest
import torch
from fuzz.tools import assert_refused, damaged, few_or, is_refused, payloads, try_all
from hypothesis.strategies import integers, sampled_from

from eqrestore_lightning import CIFAR10DataModule, MNIST3DDataModule
from eqrestore_lightning.data import SignalDataModule
from eqrestore_lightning.data._image_files import read_image

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings(  # what libraries say of damage before the error
    "ignore::UserWarning:PIL",
    "ignore::RuntimeWarning:numpy",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
PICTURE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 14, 3), "uint8"))


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def load_signals(path):
    return SignalDataModule(path, batch_size=2).fingerprint()


def load_volumes(path):
    return MNIST3DDataModule(path, padding=0).fingerprint()


def load_cifar10(path):
    return CIFAR10DataModule(path).fingerprint()


def load_image(path):
    """Damage to an image that still decodes cannot be noticed; what decodes has to be an image."""
    image = read_image(path)
    return image.dtype, image.ndim, len(image)


@few_or(500)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_damaged_images_decode_or_are_refused(kind, count, tmp_path):
    path = tmp_path / "x.png"

    def check(content):
        path.write_bytes(content)
        is_refused(load_image, path, (torch.uint8, 3, 3))

    try_all(count, damaged(saved(PICTURE, kind)), check)


@few_or(500)
@pytest.mark.parametrize("load", [load_signals, load_volumes])
def test_damaged_arrays_are_read_or_refused(load, count, tmp_path):
    path = tmp_path / ("x.npy" if load is load_signals else "x.h5")
    if load is load_signals:
        np.save(path, np.random.default_rng(0).random((20, 9)))
    else:
        with h5py.File(path, "w") as file:
            for split in ("train", "test"):
                voxels = np.zeros((10, 4_096), "float32")
                file.create_dataset(f"X_{split}", data=voxels, compression="gzip")
                file[f"y_{split}"] = np.arange(10)

    def check(content):
        path.write_bytes(content)
        is_refused(lambda path: bool(load(path)), path, True)

    try_all(count, damaged(path.read_bytes()), check)


def chunk(kind, content):
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width, height, *, data=b"", more=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + more + data


def bmp(width, height):
    whole = saved(PICTURE, "BMP")
    return whole[:18] + struct.pack("<ii", width, height) + whole[26:]


def ppm(width, height):
    return f"P6 {width} {height} 255\n".encode() + bytes(99)


@few_or(300)
def test_images_that_claim_much_are_refused(count, tmp_path):
    zeros = zlib.compress(bytes(65 * 2**20))
    hidden = [chunk(b"zTXt", b"Comment\0\0" + zeros), chunk(b"iCCP", b"profile\0\0" + zeros)]
    hidden = sampled_from([png(2, 1, data=bytes(7), more=more) for more in hidden])
    sides = integers(14_000, 2**31 - 1)
    large = st.one_of(*(st.builds(make, sides, sides) for make in (png, bmp, ppm)))
    assert_refused(count, large | hidden, read_image, tmp_path / "x.png")


@few_or(300)
def test_files_that_are_no_images_are_refused(count, tmp_path):
    canary = tmp_path / "executed"
    postscript = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file\n"
    contents = [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        postscript.encode(),
        f"#!/bin/sh\ntouch {canary}".encode(),
        b"%PDF-1.4\n1 0 obj\n",
        *(saved(PICTURE, kind) for kind in ("ICO", "TGA", "PCX", "SGI", "PDF")),
        *(pickle.dumps(code) for code in payloads(tmp_path)),
        *(png(0, 5), b"P6 0 5 255\n"),
    ]
    contents = sampled_from(contents) | st.binary(max_size=200)
    assert_refused(count, contents, read_image, tmp_path / "x.png")


def npy(shape, descr="<f8"):
    told = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(told)) + told + bytes(480)


@few_or(400)
def test_hostile_arrays_of_signals_are_refused(count, tmp_path):
    code = np.empty(12, object)
    code[:] = payloads(tmp_path)
    np.save(tmp_path / "code.npy", code, allow_pickle=True)
    shapes = [(10**12, 3), (20, 10**11), (2**62, 4), (-1, 3), (2**70,), "(10,) * 10**9", (0,), ()]
    types = ["|O", "|S8", "<U3", "<c16", "<M8[s]", "|V8", "[('a', '<f8')]", "x"]
    contents = [
        (tmp_path / "code.npy").read_bytes(),
        pickle.dumps(code),
        npy("__import__('os').system('id')"),
        *map(npy, shapes),
        *(npy((20, 3), kind) for kind in types),
    ]
    contents = sampled_from(contents) | st.binary(max_size=200)
    assert_refused(count, contents, load_signals, tmp_path / "x.npy")


@few_or(100, few=5)
def test_code_in_batches_of_cifar10_is_never_run(count, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def check(code):
        for name in ["batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))]:
            (folder / name).write_bytes(code)
        assert is_refused(load_cifar10, tmp_path)
        assert not (tmp_path / "executed").exists()

    codes = [{"data": code, "labels": []} for code in payloads(tmp_path)]
    try_all(count, st.builds(pickle.dumps, sampled_from(codes), integers(0, 5)), check)


@few_or(100, few=8)
def test_archives_write_nothing_outside_and_take_no_links(count, tmp_path):
    """Links, devices, pipes and paths that lead elsewhere, beside images that are good."""
    path = tmp_path / "archive" / "cifar10.tar.gz"
    path.parent.mkdir()
    good = saved(PICTURE.resize((32, 32)), "PNG")
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    names = ["train/a/x.png", "/train/a/x.png", "../../train/a/x.png"]
    places = ["/etc/passwd", "train/a/x.png", "../../x"]

    def check(odd):
        with tarfile.open(path, "w:gz") as archive:
            for number in range(4):
                good_one = tarfile.TarInfo(f"train/a/{number}.png")
                good_one.size = len(good)
                archive.addfile(good_one, io.BytesIO(good))
            bad_one = tarfile.TarInfo(odd[0])
            bad_one.type, bad_one.linkname = odd[1:]
            archive.addfile(bad_one)
        assert is_refused(load_cifar10, path.parent)
        assert [path.name for path in tmp_path.iterdir()] == ["archive"]

    odd = st.tuples(sampled_from(names), sampled_from(kinds), sampled_from(places))
    try_all(count, odd, check)
