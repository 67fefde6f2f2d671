"""Where MNIST lies, and MNIST with training batches mirrored at random."""

import os
from pathlib import Path
from typing import Any

import torch

from eqrestore_lightning import MNISTDataModule

DATA = Path(os.environ.get("EQRESTORE_DATA", "data"))


class MirroredMNIST(MNISTDataModule):
    """Mirror each training batch about pixel 16, along rows, columns, the diagonal, or not at all.

    Mirroring a coordinate about 16 maps the window in which MNIST's centres of mass lie,
    [15.5, 16.5), onto itself, so that a mirrored digit still stands where it belongs: eight times
    the training images for a restorer. (A classifier should not see mirrored digits.)
    """

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Mirror a training batch, the same way in every process."""
        del dataloader_idx
        if self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        generator = torch.Generator().manual_seed(
            (self.seed << 32) + self.trainer.fit_loop.total_batch_idx
        )
        rows, columns, diagonal = torch.randint(2, (3,), generator=generator).tolist()
        if rows:
            images = images.flip(2).roll(1, 2)
        if columns:
            images = images.flip(3).roll(1, 3)
        if diagonal:
            images = images.transpose(2, 3)
        return images, labels
