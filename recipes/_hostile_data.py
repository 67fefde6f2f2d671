"""Data sets that were made to do harm, or that are not what they claim to be."""

import functools
import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import PIL.Image
from _hostile_images import png, saved, write
from _hostile_weights import Maker, payloads
from _tried import CANARY, Kind

from eqrestore_lightning import (
    CIFAR10DataModule,
    MNIST3DDataModule,
    MNISTDataModule,
)
from eqrestore_lightning.data import SignalDataModule


def data_kinds() -> list[Kind]:
    """Return kinds of data sets that must be refused."""
    loaders: dict[str, tuple[Maker, Any]] = {
        "CIFAR-10: links, devices, pipes in the archive": (_tar_links, _load_cifar10),
        "CIFAR-10: archives that inflate": (_tar_bombs, _load_cifar10),
        "CIFAR-10: code in the pickles": (_cifar10_pickles, _load_cifar10),
        "3D-MNIST: groups, links, other files": (_h5_places, _load_volumes),
        "3D-MNIST: types and shapes": (_h5_types, _load_volumes),
        "3D-MNIST: 10^12 voxels in a small file": (_h5_claims, _load_volumes),
        "MNIST: sizes, types, classes": (_idx, _load_mnist),
        "signals: code, claims of 10^12 entries": (_npy, _load_signals),
        "signals: tables of other things": (_csv, _load_signals),
    }
    return [Kind(name, make, load) for name, (make, load) in loaders.items()]


def _load_cifar10(path: Path) -> object:
    return CIFAR10DataModule(path).fingerprint()


def _load_volumes(path: Path) -> object:
    return MNIST3DDataModule(path).fingerprint()


def _load_mnist(path: Path) -> object:
    return MNISTDataModule(path).fingerprint()


def _load_signals(path: Path) -> object:
    return SignalDataModule(path).fingerprint()


def _tar(folder: Path, members: list[tuple[tarfile.TarInfo, bytes]], ending: str = "") -> Path:
    mode = f"w:{ending}" if ending else "w"
    name = folder / f"cifar10.tar{'.' + ending if ending else ''}"
    with tarfile.open(name, mode) as archive:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


def _tar_links(random: Random, folder: Path) -> Path:
    good = saved("PNG", PIL.Image.new("RGB", (32, 32)))
    members = [(tarfile.TarInfo(f"train/a/{n}.png"), good) for n in range(random.randrange(5))]
    odd = tarfile.TarInfo(random.choice(["train/a/x.png", "/train/a/x.png", "../../train/a/x.png"]))
    odd.type = random.choice(
        [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
         tarfile.DIRTYPE]
    )  # fmt: skip
    odd.linkname = random.choice(["/etc/passwd", "train/a/0.png", "train/a/x.png", "../../x"])
    return _tar(folder, [*members, (odd, b"")], random.choice(["", "gz", "xz", "bz2"]))


@functools.cache
def _black(size: int) -> bytes:
    return saved("PNG", PIL.Image.new("RGB", (size, size)))


def _tar_bombs(random: Random, folder: Path) -> Path:
    """Write images that inflate, more than there are, or long files that are none."""
    choice = random.randrange(12)
    if choice >= 10:
        return _tar_names(random, folder)
    if choice < 5:
        side = random.choice([9_000, 13_000])
        black = random.choice([_black(33), _black(3_000), png(side, side), bytes(10**5)])
        large = [(tarfile.TarInfo("train/a/0.png"), black)]
        return _tar(folder, large * random.randint(1, 9), "gz")
    if choice < 9:
        return _tar(folder, [(tarfile.TarInfo("train/a/0.png"), bytes(2**24))] * 3, "gz")
    small = _black(32)
    with tarfile.open(folder / "cifar10.tar.gz", "w:gz", compresslevel=1) as archive:
        for number in range(10_001):
            member = tarfile.TarInfo(f"test/class{number % 10}/{number}.png")
            member.size = len(small)
            archive.addfile(member, io.BytesIO(small))
    return folder


def _tar_names(random: Random, folder: Path) -> Path:
    """Give an entry a name of 300 MB, in the ways that archives have for long ones."""
    member = tarfile.TarInfo("././@LongLink")
    member.type = random.choice([tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
    member.size = 300 * 2**20
    with gzip.open(folder / "cifar10.tar.gz", "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            file.write(bytes(2**20))
        file.write(tarfile.TarInfo("train/a/0.png").tobuf() + bytes(1_024))
    return folder


def _cifar10_pickles(random: Random, folder: Path) -> Path:
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    code: Any = random.choice(payloads(folder.parent / CANARY))
    names = ["batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))]
    for name in names:
        content = random.choice([code, {"data": code, "labels": []}, {"label_names": code}])
        (batches / name).write_bytes(pickle.dumps(content, random.randint(0, 5)))
    return folder


def _volumes(folder: Path, count: int = 10) -> Path:
    with h5py.File(folder / "volumes.h5", "w") as file:
        for split in ("train", "test"):
            file[f"X_{split}"] = np.zeros((count, 4_096), "float32")
            file[f"y_{split}"] = np.arange(count) % 10
    return folder / "volumes.h5"


def _h5_places(random: Random, folder: Path) -> Path:
    """Put a group, a link, or content of other files where a data set is expected."""
    path, name = _volumes(folder), random.choice(["X_train", "y_train", "X_test", "y_test"])
    (folder / "other").mkdir()
    other = _volumes(folder / "other")
    secret = write(folder, "secret", bytes(10 * 4_096 * 4))
    shape, dtype = ((10, 4_096), "float32") if name[0] == "X" else ((10,), "int64")
    with h5py.File(path, "a") as file:
        del file[name]
        choice = random.randrange(8)
        if choice == 0:
            file.create_group(name)
        elif choice == 1:
            file[name] = h5py.ExternalLink(random.choice([str(other), "/etc/passwd"]), name)
        elif choice == 2:
            file[name] = h5py.SoftLink(random.choice(["/" + name, "/X_train", "/nothing"]))
        elif choice == 3:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            file.create_dataset(name, shape, dtype, external=[(str(secret), 0, size)])
        elif choice == 4:
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(str(other), name, shape)
            file.create_virtual_dataset(name, layout)
        elif choice == 5:
            file[name] = file
        elif choice == 6:
            file[name] = np.dtype("float32")
    return path


def _h5_types(random: Random, folder: Path) -> Path:
    path, name = _volumes(folder), random.choice(["X_train", "y_train", "X_test", "y_test"])
    contents: list[Any] = [
        np.array([b"x"] * 10), ["text"] * 10, np.zeros(10, [("a", "f4"), ("b", "i8")]),
        np.zeros((10, 4_096), "complex64"), np.zeros((10, 4_096), [("a", "f4", (4,))]),
        np.full((10, 4_096), np.nan, "float32"), np.float32(3.0), h5py.Empty("f"), np.zeros(0),
        np.zeros((10, 4_095), "float32"), np.zeros((9, 4_096), "float32"),
        np.zeros((10, 16, 16, 16)), np.full(10, 10), np.full(10, -1), np.full(10, 2**40),
        np.zeros(10, "float64"), np.zeros(3, "i8"),
    ]  # fmt: skip
    with h5py.File(path, "a") as file:
        del file[name]
        choice = random.randrange(len(contents) + 3)
        if choice < len(contents):
            file[name] = contents[choice]
        elif choice == len(contents):
            file.create_dataset(name, (10,), h5py.ref_dtype)
        elif choice == len(contents) + 1:
            file.create_dataset(name, (10,), h5py.vlen_dtype(np.dtype("int32")))
        else:
            file.create_dataset(name, (10,), np.dtype("V16"))
    return path


def _h5_claims(random: Random, folder: Path) -> Path:
    """Claim entries that are filled in on reading, that inflate, or that share one huge chunk."""
    path = _volumes(folder)
    count = 10 ** random.randint(4, 9)
    with h5py.File(path, "a") as file:
        del file["X_train"], file["y_train"]
        options: dict[str, Any] = random.choice(
            [
                {},
                {"fillvalue": 0.5},
                {"chunks": (1, 4_096), "compression": "gzip"},
                {"chunks": (1_000, 4_096), "fillvalue": 1.0},
                {"chunks": (100_000, 4_096), "maxshape": (None, 4_096), "compression": "gzip"},
            ]
        )
        largest = 10 if options.get("maxshape") else count
        file.create_dataset("X_train", (largest, 4_096), "float32", **options)
        file.create_dataset("y_train", (largest,), "int64")
    return path


def _idx(random: Random, folder: Path) -> Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = struct.pack(">4I", 0x803, 10, 28, 28) + bytes(7_840)
        labels = struct.pack(">2I", 0x801, 10) + bytes(10)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    magic = random.choice([0xD03, 0x800, 0x8FF, 0, 2**31, 0x802])
    contents = [
        struct.pack(">4I", 0x803, 2**31, 28, 28) + bytes(7_840),
        struct.pack(">4I", 0x803, 10, 2**16, 2**16) + bytes(7_840),
        struct.pack(">4I", magic, 10, 28, 28) + bytes(99),
        struct.pack(">2I", 0x801, 10) + bytes([10 + random.randrange(246)]) * 10,
        struct.pack(">2I", 0x801, 9) + bytes(9),
        b"", b"no idx", random.randbytes(200),
    ]  # fmt: skip
    path = random.choice(sorted(raw.iterdir()))
    path.write_bytes(random.choice(contents))
    return folder


def _npy(random: Random, folder: Path) -> Path:
    def claim(shape: object, descr: str = "<f8") -> bytes:
        told = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(told) + 1) + told.encode() + b"\n"

    code = np.empty(12, object)
    code[:] = payloads(folder.parent / CANARY)
    buffer = io.BytesIO()
    np.save(buffer, code, allow_pickle=True)
    claims = [(10**12, 3), (20, 10**11), (2**62, 4), (-1, 3), (2**70,), "(10,) * 10**9", (0,), ()]
    odd = ["|O", "|S8", "<U3", "<c16", "<M8[s]", "|V8", "[('a', '<f8')]", "x"]
    content = random.choice(
        [
            buffer.getvalue(),
            claim(random.choice(claims)) + bytes(480),
            claim((20, 3), random.choice(odd)) + bytes(480),
            claim("__import__('os').system('id')") + bytes(480),
            b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1) + b"{" * 1_000,
            pickle.dumps(code),
        ]
    )
    return write(folder, "x.npy", content)


def _csv(random: Random, folder: Path) -> Path:
    rows = ["1,2,3"] * 20
    place = random.randrange(20)
    rows[place] = random.choice(
        ["1,2", "1,2,3,4", "1,2,x", "=cmd()", "1,2,inf", "nan,1,2", "1e999,1,2", '"1,2,3', "1;2;3"]
    )
    contents = ["\n".join(rows).encode(), random.randbytes(500), b"\0" * 500, b"1,2,3\n",
                b",,,\n" * 20, "1,2,3\n".encode("utf-16") * 20, b"a,b\n" + b"x" * 9**6]  # fmt: skip
    return write(folder, "x.csv", random.choice(contents[:1] * 3 + contents))
