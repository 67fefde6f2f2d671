"""What `eqrestore fit` leaves when it is interrupted, and how the same command goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning

from eqrestore_lightning.files import reading
from eqrestore_lightning.weights import read_checkpoint


class RunNotes(lightning.Callback):
    """Write into each checkpoint of which run it is.

    Args:
        notes: What determines the result, such as arguments, in plain JSON types.
    """

    def __init__(self, notes: Mapping[str, Any]) -> None:
        self.notes = dict(notes)

    def state_dict(self) -> dict[str, Any]:
        """Return the notes."""
        return self.notes


def interrupted_run(path: Path, notes: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that an interrupted run with the same arguments has left, if any.

    Args:
        path: Where it would be.
        notes: What the run to be started notes.

    Raises:
        ValueError: If the checkpoint is of a run with other arguments or other images.
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
