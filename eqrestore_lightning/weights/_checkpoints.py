"""Read checkpoints of strangers: plain values, and tensors that the file holds."""

import os
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.weights._digest import (
    DIGEST,
    check_digest,
    content_digest,
    warn_without_digest,
)
from eqrestore_lightning.weights._reading import reading

_LONGEST_PICKLE = 2_000_000  # bytes; DenseNet-121 and its optimizer take 223,179
_MOST_CONTAINERS = 100_000  # a tensor takes six of them
_NAMES = {
    "__builtin__ set",
    "collections Counter",
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    "torch.storage UntypedStorage",
}


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint that `torch.save` wrote, without trusting it.

    Nothing in it is executed, and memory is only taken for what the file holds. `torch.load` with
    `weights_only=True` ensures the former, but not the latter: its archives may be compressed, and
    a few of the names that it allows make objects of any size.

    Args:
        path: The file.

    Returns:
        Its content; tensors lie on the CPU, and in the file itself until they are changed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but tensors and plain values, or claims more than it holds.
    """
    path = Path(path)
    with reading(f"{path} to be a checkpoint of tensors and plain values"):
        _check_archive(path)
        with warnings.catch_warnings():  # one error reports what is wrong with a file
            warnings.simplefilter("ignore")
            # mapped, so that a tensor cannot reach beyond the file
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}, not a dictionary")
        _check_held(content.get("state_dict"), path)
    return content


def _check_archive(path: Path) -> None:
    """Refuse archives that inflate, or whose pickle names what makes objects of any size."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size = path.stat().st_size
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed entries, which torch.save does not write")
        if sum(member.file_size for member in members) > size:
            raise ValueError(f"entries that together are larger than the file, {size:,} bytes")
        names = [member.filename.lower() for member in members]  # torch ignores their case
        if len(set(names)) < len(names) or not _torch_sees(archive, size):
            raise ValueError("an archive that can be read in two ways")
        (pickled,) = (m for m in members if m.filename.lower().endswith("/data.pkl"))
        if pickled.file_size > _LONGEST_PICKLE:
            raise ValueError(f"more than {_LONGEST_PICKLE:,} bytes of plain values")
        _check_pickle(archive.read(pickled))


def _torch_sees(archive: zipfile.ZipFile, size: int) -> bool:
    """Return whether torch looks for the directory of an archive where `zipfile` has found it."""
    file = archive.fp
    if file is None or size < 22:
        return False
    file.seek(-min(size, 98), os.SEEK_END)
    tail = file.read()
    (start,) = struct.unpack("<I", tail[-6:-2])
    if tail[-42:-38] == b"PK\6\7":  # the locator of a 64-bit end record, as torch writes
        record, start = struct.unpack("<Q", tail[-34:-26])[0], struct.unpack("<Q", tail[48:56])[0]
        if record != size - 98:
            return False
    return tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0" and start == archive.start_dir


def _check_pickle(pickled: bytes) -> None:
    containers = 0
    for operation, name, _ in pickletools.genops(pickled):
        if operation.name in ("GLOBAL", "INST", "STACK_GLOBAL") and not _is_plain(str(name)):
            raise ValueError(f"the name {name!r}, which tensors and plain values do not need")
        containers += operation.name.startswith(("DICT", "EMPTY", "LIST", "REDUCE", "TUPLE"))
    if containers > _MOST_CONTAINERS:
        raise ValueError(f"{containers:,} lists and the like, of at most {_MOST_CONTAINERS:,}")


def _is_plain(name: str) -> bool:
    room, _, what = name.partition(" ")
    of_torch = room == "torch" and (
        what.endswith("Storage") or isinstance(getattr(torch, what, None), torch.dtype)
    )
    return name in _NAMES or of_torch


def _check_held(state: object, path: Path) -> None:
    """Refuse tensors that together have more entries than the file, such as expanded ones."""
    values = state.values() if isinstance(state, dict) else ()
    tensors = [value for value in values if isinstance(value, Tensor)]
    claimed, size = sum(x.numel() * x.element_size() for x in tensors), path.stat().st_size
    if claimed > size:
        raise ValueError(
            f"tensors that claim {claimed:,} bytes, which is more than the file holds, {size:,}"
        )


def check_checkpoint(checkpoint: Mapping[str, Any], name: str) -> None:
    """Compare the digest that a checkpoint holds with its content; warn if it holds none.

    Args:
        checkpoint: What `torch.load` returned.
        name: Of the file, for messages.

    Raises:
        ValueError: If they differ.
    """
    check_digest(checkpoint.get(DIGEST), checkpoint_digest(checkpoint), name)
    if DIGEST not in checkpoint:
        warn_without_digest(name)


def add_digest(checkpoint: dict[str, Any]) -> None:
    """Write the digest of a checkpoint's hyper-parameters and tensors into it."""
    checkpoint[DIGEST] = checkpoint_digest(checkpoint)


def checkpoint_digest(checkpoint: Mapping[str, Any]) -> str:
    """Return the digest of a checkpoint's hyper-parameters and tensors."""
    parameters = dict(checkpoint.get("hyper_parameters") or {})
    state = checkpoint.get("state_dict") or {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    return content_digest({"hyper_parameters": parameters}, tensors)
