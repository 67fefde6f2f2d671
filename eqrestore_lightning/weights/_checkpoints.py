"""Checkpoints of Lightning: read without running anything, and with a digest of their content."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.files._reading import reading
from eqrestore_lightning.weights._digest import DIGEST, check_digest, content_digest


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of a module of this package; nothing in it is executed.

    Its tensors may claim more memory than the file holds: from strangers take `.safetensors`.

    Args:
        path: The file.

    Returns:
        Its content; tensors lie on the CPU, and in the file itself until they are changed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but tensors and plain values, or not the digest of its
            hyper-parameters and tensors.
    """
    with reading(f"{path} to be a checkpoint of tensors and plain values"):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}, not a dictionary")
        digest = _digest(content)
    check_digest(content.get(DIGEST), digest, str(path))
    return content


def add_digest(checkpoint: dict[str, Any]) -> None:
    """Write the digest of a checkpoint's hyper-parameters and tensors into it."""
    checkpoint[DIGEST] = _digest(checkpoint)


def check_checkpoint(checkpoint: Mapping[str, Any], name: str) -> None:
    """Compare the digest that a checkpoint holds with its content.

    Args:
        checkpoint: What `torch.load` returned.
        name: Of the file, for messages.

    Raises:
        ValueError: If they differ, or there is none.
    """
    check_digest(checkpoint.get(DIGEST), _digest(checkpoint), name)


def _digest(checkpoint: Mapping[str, Any]) -> str:
    parameters = dict(checkpoint.get("hyper_parameters") or {})
    state = checkpoint.get("state_dict") or {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    return content_digest({"hyper_parameters": parameters}, tensors)
