"""Random draws that depend neither on the number of processes nor on where training resumed."""

from collections.abc import Callable

import lightning
import torch
from torch import Tensor


def step_generator(seed: int, step: int) -> torch.Generator:
    """Give a generator on the CPU that seed and step decide, each seed with draws of its own.

    Args:
        seed: Any whole number.
        step: Number of the batch.

    Source: own; torch's generator on the CPU looks at 32 bits of its seed only, over which an odd
    multiplier spreads the seeds.

    >>> step_generator(0, 7).initial_seed(), step_generator(1, 7).initial_seed()
    (7, 2654435776)
    """
    return torch.Generator().manual_seed((seed * 0x9E3779B9 + step) % 2**32)


def draw_for_batch(
    draw: Callable[[int, torch.Generator], Tensor],
    batch_size: int,
    *,
    trainer: lightning.Trainer | None,
    seed: int,
    step: int,
) -> Tensor:
    """Draw for each image of this process's batch, as one process would for the whole batch.

    Args:
        draw: From a number of images and a generator to one row for each.
        batch_size: Images of this process's batch.
        trainer: Knows how many processes there are and which of them this is; `None` for one.
        seed: Together with the step, decides what is drawn.
        step: Number of the batch.

    Returns:
        `batch_size` rows, interleaved over processes as a `DistributedSampler` deals out samples.

    Source: own.

    >>> def draw(count, generator):
    ...     return torch.rand(count, generator=generator)
    >>> draw_for_batch(draw, 3, trainer=None, seed=0, step=0)
    tensor([0.4963, 0.7682, 0.0885])
    """
    processes, rank = 1, 0
    if trainer is not None:
        processes, rank = trainer.world_size, trainer.global_rank
    return draw(batch_size * processes, step_generator(seed, step))[rank::processes]
