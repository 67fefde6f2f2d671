"""What `eqrestore fit` does while it trains: show how far it is, note of which run it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from tqdm import tqdm

from eqrestore_lightning.files import reading
from eqrestore_lightning.weights import read_checkpoint


class Progress(lightning.Callback):
    """Show a bar of steps, or of seconds where training ends by time, if somebody can see it.

    Args:
        minutes: For how long training goes on; `None` if it ends after a number of steps.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._bar: tqdm | None = None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Open the bar."""
        del pl_module
        by_time = self.minutes is not None
        self._bar = tqdm(
            total=round(60 * (self.minutes or 0))
            if by_time
            else trainer.estimated_stepping_batches,
            initial=0 if by_time else trainer.global_step,
            desc="Training",
            unit="s" if by_time else "step",
            disable=None if trainer.is_global_zero else True,
        )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *rest: Any
    ) -> None:
        """Move the bar."""
        del pl_module, rest
        bar = self._bar
        if bar is None or bar.disable:
            return
        place = trainer.global_step
        if self.minutes is not None:
            place = min(round(bar.format_dict["elapsed"]), bar.total)
        bar.update(place - bar.n)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Close the bar, so that the message comes last."""
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class RunNotes(lightning.Callback):
    """Write into each checkpoint of which run it is.

    Args:
        notes: What determines the result, such as settings, in plain JSON types.
    """

    def __init__(self, notes: Mapping[str, Any]) -> None:
        self.notes = dict(notes)

    def state_dict(self) -> dict[str, Any]:
        """Return the notes."""
        return self.notes


def interrupted_run(path: Path, notes: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that an interrupted run of the same kind has left, if any.

    Args:
        path: Where it would be.
        notes: What the run to be started notes.

    Raises:
        ValueError: If the checkpoint is of a run with other settings or other images.
    """
    if not path.is_file():
        return None
    with reading(f"{path} to be the checkpoint of an interrupted run"):
        found = read_checkpoint(path)["callbacks"][RunNotes.__name__]
    differing = {name: found.get(name) for name in notes if found.get(name) != notes[name]}
    if differing:
        wanted = {name: notes[name] for name in differing}
        raise ValueError(
            f"Expected {path}, which an interrupted run has left, to be of a run with {wanted}, "
            f"but got {differing}; remove it to begin anew, or repeat the command that was "
            f"interrupted."
        )
    return path
