"""Data modules that change their training images, each batch anew."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from eqrestore_lightning.data import InMemoryDataModule


class Augmented(InMemoryDataModule, ABC):
    """Change training images on their device, to be named before a data module of images."""

    @abstractmethod
    def augment(self, images: Tensor, step: int) -> Tensor:
        """Change the images of training batch number `step`."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a training batch, and leave others as they are."""
        del dataloader_idx
        if self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        return self.augment(images, self.trainer.fit_loop.total_batch_idx), labels
