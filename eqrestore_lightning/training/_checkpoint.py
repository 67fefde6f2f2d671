"""Checkpoints that know what they hold."""

from typing import Any

import lightning

from eqrestore_lightning.weights import add_digest, check_checkpoint


class DigestedModule(lightning.LightningModule):
    """Write a digest of hyper-parameters and weights into checkpoints, and verify it on loading.

    Checkpoints without one, such as those of older versions, load with a warning.
    """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the digest."""
        add_digest(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `ValueError` if the checkpoint holds other content than its digest says."""
        check_checkpoint(checkpoint, f"the checkpoint of a {type(self).__name__}")
