"""What `eqrestore fit` does while it trains: show how far it is, note of which run it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from tqdm import tqdm

from eqrestore_lightning.files._reading import reading
from eqrestore_lightning.weights._digest import read_checkpoint


class Progress(lightning.Callback):
    """Move a bar: of steps, or of seconds where training ends by time.

    Args:
        bar: The bar, whose `unit` is "step" or "s".
    """

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *rest: Any
    ) -> None:
        """Move the bar."""
        del pl_module, rest
        if self.bar.disable:
            return
        place = trainer.global_step
        if self.bar.unit == "s":
            place = min(round(self.bar.format_dict["elapsed"]), self.bar.total)
        self.bar.update(place - self.bar.n)


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
