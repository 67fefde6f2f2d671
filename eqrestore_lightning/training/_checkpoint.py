"""Checkpoints that are whole and know what they hold."""

import io
from pathlib import Path
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from eqrestore_lightning.files._reading import reading
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.weights._digest import (
    add_digest,
    check_checkpoint,
    read_checkpoint,
)


class DigestedModule(lightning.LightningModule):
    """Write a digest of hyper-parameters and weights into checkpoints, and verify it on loading."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """Load a local checkpoint as Lightning does, but execute nothing in it.

        With `weights_only=False` anything is loaded, and no digest compared. From strangers take
        `.safetensors`: tensors of a checkpoint may claim more memory than the file holds.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or the checkpoint of something else.
        """
        options = {"weights_only": True, **options}
        if options["weights_only"]:
            parameters = read_checkpoint(checkpoint_path).get("hyper_parameters")
            if "_instantiator" in (parameters or ()):  # a function that Lightning would call
                raise ValueError(f"Expected {checkpoint_path} to name no function, but it does.")
        with reading(f"{checkpoint_path} to be a checkpoint of a {cls.__name__}"):
            module: Self = super().load_from_checkpoint(checkpoint_path, *args, **options)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the digest."""
        add_digest(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `ValueError` if training resumes from other content than the digest is of."""
        if self._trainer is not None:  # otherwise it was read, and hyper-parameters may be replaced
            check_checkpoint(checkpoint, f"the checkpoint of a {type(self).__name__}")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints whole or not at all; Lightning's own may copy them from another disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint to a local file."""
        del storage_options
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # a full disk is an OSError only where plain bytes are written
        torch.save(checkpoint, content)
        with whole_file(path) as part:
            part.write_bytes(content.getbuffer())
