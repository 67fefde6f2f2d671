"""Training for a time instead of a number of epochs."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, IterableDataset

from eqrestore_lightning import RestorerModule
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training import trainer_options


def train_for(
    minutes: float,
    estimator: Estimator,
    batches: IterableDataset[Any] | Iterable[Any],
    *,
    seed: int,
    precision: str | None = None,
    **options: Any,
) -> Estimator:
    """Train an estimator, and return it on the CPU.

    Args:
        minutes: How long.
        estimator: What to train.
        batches: Without end, or a loader.
        seed: Decides how images are moved.
        precision: Unless the launcher was given another; by default float32.
        options: Further arguments of `RestorerModule`.
    """
    trainer = L.Trainer(
        max_time=timedelta(minutes=minutes),
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **{"precision": precision, **trainer_options()},
    )
    module = RestorerModule(estimator, seed=seed, **options)
    if isinstance(batches, IterableDataset):
        batches = DataLoader(batches, batch_size=None)
    trainer.fit(module, batches)
    return module.estimator.cpu()
