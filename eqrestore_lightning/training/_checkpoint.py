"""Checkpoints that are whole and know what they hold."""

import io
from pathlib import Path
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from eqrestore_lightning.files import whole_file
from eqrestore_lightning.weights import add_digest, check_checkpoint, read_checkpoint, reading

_OF_LIGHTNING = ("map_location", "hparams_file", "strict", "weights_only")


class DigestedModule(lightning.LightningModule):
    """Write a digest of hyper-parameters and weights into checkpoints, and verify it on loading.

    Checkpoints without one, such as those of older versions, load with a warning.
    """

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """Load a checkpoint, see `lightning.LightningModule.load_from_checkpoint`.

        Only tensors and plain values are read, of a file on this machine, and memory is only taken
        for what it holds, unless `weights_only=False` is given.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or the checkpoint of something else.
        """
        options = {"weights_only": True, **options}
        content: Any = checkpoint_path
        with reading(f"{checkpoint_path} to be a checkpoint of a {cls.__name__}"):
            if options["weights_only"]:
                content = cls._checked(checkpoint_path, options)
            module: Self = super().load_from_checkpoint(content, *args, **options)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the digest."""
        add_digest(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `ValueError` if the checkpoint holds other content than its digest says."""
        check_checkpoint(checkpoint, f"the checkpoint of a {type(self).__name__}")

    @classmethod
    def _checked(cls, path: Any, options: dict[str, Any]) -> io.BytesIO:
        """Return a checkpoint as it was read, if it fits the module that it describes.

        The module is built without memory first. Lightning is given what was checked rather than
        the file, so that it cannot see anything else.
        """
        checkpoint = read_checkpoint(path)
        given = {name: x for name, x in options.items() if name not in _OF_LIGHTNING}
        state = checkpoint["state_dict"]
        with torch.device("meta"):
            expected = cls(**{**checkpoint["hyper_parameters"], **given}).state_dict()
        for name, value in expected.items():
            held = state.get(name)
            if not isinstance(held, Tensor) or held.shape != value.shape:
                found = tuple(held.shape) if isinstance(held, Tensor) else "none"
                raise ValueError(f"{name} of shape {found}, not {tuple(value.shape)}")
            if held.is_floating_point() != value.is_floating_point():
                raise ValueError(f"{name} of dtype {held.dtype}, not {value.dtype}")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        buffer.seek(0)
        return buffer


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
