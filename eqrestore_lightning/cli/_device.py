"""Where the commands compute."""

from typing import Literal, TypeAlias

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(device: Device = "auto") -> str:
    """Return the device to compute on, by default a GPU if there is one."""
    import torch

    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if device == "auto":
        return "cuda" if found["cuda"] else "cpu"
    if not found[device]:
        names = ", ".join(name for name, is_there in found.items() if is_there)
        raise ValueError(
            f"Expected `device` to be one that this machine has, auto, {names}, but got {device}."
        )
    return device
