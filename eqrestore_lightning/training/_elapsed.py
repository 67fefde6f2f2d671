"""How much of the training time has passed."""

import lightning
from lightning.pytorch.callbacks import Timer


def elapsed_share(trainer: lightning.Trainer) -> float:
    """Return how much of the `max_time` of a trainer has passed, the same in every process.

    Args:
        trainer: A trainer that is training.

    Returns:
        From 0 to 1; 0 for a trainer without `max_time`.
    """
    timer = _timer(trainer)
    if timer is None:
        return 0.0
    elapsed, remaining = timer.time_elapsed(), timer.time_remaining() or 0.0
    share = 1.0 if remaining <= 0 else elapsed / (elapsed + remaining)
    return float(trainer.strategy.broadcast(share))


def has_end(trainer: lightning.Trainer) -> bool:
    """Check whether a trainer has `max_epochs`, `max_steps` or `max_time`."""
    return trainer.estimated_stepping_batches != float("inf") or _timer(trainer) is not None


def _timer(trainer: lightning.Trainer) -> Timer | None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a mixin
        if isinstance(callback, Timer) and callback.time_remaining() is not None:
            return callback
    return None
