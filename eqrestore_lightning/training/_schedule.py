"""Where training ends: what the learning rates of both modules fall toward."""

import math

import lightning
from lightning.pytorch.callbacks import GradientAccumulationScheduler, Timer


def num_training_steps(trainer: lightning.Trainer) -> float:
    """Return after how many optimizer steps training ends: infinity if only `max_time` ends it."""
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    batches, epochs, steps = trainer.num_training_batches, trainer.max_epochs, math.inf
    if batches == 0 and trainer.limit_train_batches != 0:
        raise ValueError("Expected at least one training batch, but got none.")
    if trainer.max_steps != -1:
        steps = trainer.max_steps
    if epochs is not None and epochs != -1:
        if batches == steps == math.inf:
            raise ValueError(
                f"Expected a training loader with a length, `limit_train_batches` or `max_steps`, "
                f"so that the learning rate can fall toward the end of training, but got a loader "
                f"without length and `max_epochs` = {epochs}."
            )
        if batches != math.inf:
            each = (math.ceil(batches / _accumulated(trainer, epoch)) for epoch in range(epochs))
            steps = min(steps, sum(each))
    if steps == math.inf and _timer(trainer) is None:
        raise ValueError(
            "Expected the `Trainer` to have `max_epochs`, `max_steps` or `max_time`, toward which "
            "the learning rate falls, but got none."
        )
    return max(1, steps)


def elapsed_share(trainer: lightning.Trainer) -> float:
    """Return the share of `max_time` that has passed, the same in every process; else 0."""
    timer = _timer(trainer)
    if timer is None:
        return 0.0
    elapsed, remaining = timer.time_elapsed(), timer.time_remaining() or 0.0
    share = 1.0 if remaining <= 0 else elapsed / (elapsed + remaining)
    return float(trainer.strategy.broadcast(share))


def _accumulated(trainer: lightning.Trainer, epoch: int) -> int:
    """Return over how many batches gradients are accumulated in an epoch."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a mixin
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches


def _timer(trainer: lightning.Trainer) -> Timer | None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a mixin
        if isinstance(callback, Timer) and callback.time_remaining() is not None:
            return callback
    return None
