"""Checkpoints that are whole and know what they hold."""

import io
import warnings
from pathlib import Path
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from eqrestore_lightning.files import whole_file
from eqrestore_lightning.weights import add_digest, check_checkpoint, reading


class DigestedModule(lightning.LightningModule):
    """Write a digest of hyper-parameters and weights into checkpoints, and verify it on loading.

    Checkpoints without one, such as those of older versions, load with a warning.
    """

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """Load a checkpoint, see `lightning.LightningModule.load_from_checkpoint`.

        Only tensors and plain values are read unless `weights_only=False` is given.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or the checkpoint of something else.
        """
        options = {"weights_only": True, **options}
        with reading(f"{checkpoint_path} to be a checkpoint of a {cls.__name__}"):
            if options["weights_only"]:
                cls._check_sizes(checkpoint_path)
            module: Self = super().load_from_checkpoint(checkpoint_path, *args, **options)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the digest."""
        add_digest(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `ValueError` if the checkpoint holds other content than its digest says."""
        check_checkpoint(checkpoint, f"the checkpoint of a {type(self).__name__}")

    @classmethod
    def _check_sizes(cls, path: Any) -> None:
        """Build the module without memory, to see whether the file holds what it claims."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint["state_dict"]
        with torch.device("meta"):
            expected = cls(**checkpoint["hyper_parameters"]).state_dict()
        for name, value in expected.items():
            held = tuple(state[name].shape) if name in state else "none"
            if held != tuple(value.shape):
                raise ValueError(f"{name} of shape {held}, not {tuple(value.shape)}")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints whole or not at all: `Trainer(plugins=[AtomicCheckpointIO()])`.

    Lightning's own writes to the folder for temporary files first and moves the file then; from
    another disk that is copying, of which a process that is killed leaves the first part.
    """

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
