"""Digests of weights: whether a file holds what was written."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

DIGEST = "digest"
"""The key under which files hold it."""


def content_digest(notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a configuration and of tensors, names, shapes and dtypes included.

    Args:
        notes: Anything that JSON holds; the entry `"digest"` is left out.
        tensors: By name, on any device.

    Returns:
        64 hexadecimal digits.

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
    """Compare the digest that a file holds with that of its content.

    Args:
        found: What the file holds; `None` if it holds none.
        expected: What `content_digest` returned.
        name: Of the file, for messages.

    Raises:
        ValueError: If they differ, or there is none.
    """
    if found != expected:
        what = "none" if found is None else f"{str(found)[:16]}…"
        raise ValueError(
            f"Expected {name} to hold the digest of its content, {expected[:16]}…, but got {what}: "
            f"the file is damaged, was changed, or was written by another program."
        )
