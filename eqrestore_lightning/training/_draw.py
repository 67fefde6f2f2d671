"""Random draws that depend neither on the number of processes nor on where training resumed."""

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor

from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.motions._base import build_motion


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return a generator for a batch; an odd factor spreads seeds over the 32 bits that torch uses.

    >>> step_generator(0, 7).initial_seed(), step_generator(1, 7).initial_seed()
    (7, 2654435776)
    """
    return torch.Generator().manual_seed((seed * 0x9E3779B9 + step) % 2**32)


def draw_for_batch(
    motion: Motion, x: Tensor, *, trainer: lightning.Trainer | None, seed: int, step: int
) -> Element:
    """Draw for this process's images what one process would, dealt as by a `DistributedSampler`.

    >>> from eqrestore_lightning.motions import Turn
    >>> draw_for_batch(Turn((15, 15)), torch.zeros(3, 1, 8, 8), trainer=None, seed=0, step=0)
    {'angle': tensor([15., 15., 15.])}
    """
    processes, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
    element = motion.draw(
        len(x) * processes, tuple(x.shape[2:]), generator=step_generator(seed, step)
    )
    return {name: value[rank::processes].to(x.device) for name, value in element.items()}


def motion_argument(motion: Motion | Mapping[str, Any] | None, default: Motion) -> Motion:
    """Return the motion that a module was given: itself, its configuration, or `None`."""
    if isinstance(motion, Mapping):
        return build_motion(motion)
    if motion is not None and not isinstance(motion, Motion):
        raise TypeError(
            f"Expected `motion` to be a motion, its configuration or None, "
            f"but got {type(motion).__name__}."
        )
    return default if motion is None else motion
