"""Digests of files of weights, and checkpoints of Lightning that hold one."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.files._reading import reading

DIGEST = "digest"
"""The key under which files hold it."""


def content_digest(notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of notes but for `DIGEST`, and of names, dtypes and shapes of tensors.

    >>> weights = {"weight": torch.arange(3.0)}
    >>> content_digest({"kind": "a"}, weights) == content_digest({"kind": "b"}, weights)
    False
    """
    sha = hashlib.sha256()
    kept = {name: value for name, value in notes.items() if name != DIGEST}
    sha.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def check_digest(found: object, expected: str, name: str) -> None:
    """Refuse the content of the file `name` if it holds another digest than that, or none."""
    if found != expected:
        what = "none" if found is None else f"{str(found)[:16]}…"
        raise ValueError(
            f"Expected {name} to hold the digest of its content, {expected[:16]}…, but got {what}: "
            f"the file is damaged, was changed, or was written by another program."
        )


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read tensors and plain values, of which nothing is executed, into memory mapped on the CPU.

    Tensors may claim more memory than the file holds: from strangers take `.safetensors`.
    """
    with reading(f"{path} to be a checkpoint of tensors and plain values"):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}, not a dictionary")
        digest = _checkpoint_digest(content)
    check_digest(content.get(DIGEST), digest, str(path))
    return content


def add_digest(checkpoint: dict[str, Any]) -> None:
    """Write the digest of a checkpoint's hyper-parameters and tensors into it."""
    checkpoint[DIGEST] = _checkpoint_digest(checkpoint)


def check_checkpoint(checkpoint: Mapping[str, Any], name: str) -> None:
    """Compare the digest that a checkpoint, once loaded from the file `name`, holds."""
    check_digest(checkpoint.get(DIGEST), _checkpoint_digest(checkpoint), name)


def _checkpoint_digest(checkpoint: Mapping[str, Any]) -> str:
    parameters = dict(checkpoint.get("hyper_parameters") or {})
    state = checkpoint.get("state_dict") or {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    return content_digest({"hyper_parameters": parameters}, tensors)
