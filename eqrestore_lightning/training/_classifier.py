"""Train a classifier, to have something to stand in front of."""

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from eqrestore_lightning.classifiers import small_cnn


class ClassifierModule(lightning.LightningModule):
    """Train a small convolutional classifier by cross-entropy, on images as they come.

    Logs `train/loss`, and for `val` and `test` `loss` and `accuracy`.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of classes.
        learning_rate: Peak of AdamW's one-cycle schedule.

    Raises:
        ValueError: If `learning_rate` is not above 0.

    Source: own.

    >>> ClassifierModule(1, 10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        learning_rate: float = 4e-3,
    ) -> None:
        super().__init__()
        if learning_rate <= 0:
            raise ValueError(f"Expected `learning_rate` to be above 0, but got {learning_rate}.")
        self.save_hyperparameters()
        self.classifier = small_cnn(in_channels, num_classes)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Give logits: `(batch, in_channels, height, width)` to `(batch, num_classes)`."""
        return self.classifier(x)  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Give the cross-entropy of one batch."""
        del batch_idx
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure one validation batch."""
        del batch_idx
        self._evaluation_step(batch, "val", self.val_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure one test batch."""
        del batch_idx
        self._evaluation_step(batch, "test", self.test_accuracy)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Give the classes of one batch, int64 of shape `(batch,)`."""
        del batch_idx
        images = batch if isinstance(batch, Tensor) else batch[0]
        return self(images).argmax(1)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        """Build AdamW with a one-cycle schedule."""
        rate = float(self.hparams["learning_rate"])
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=rate,
            total_steps=max(2, int(self.trainer.estimated_stepping_batches)),
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _evaluation_step(
        self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy
    ) -> None:
        images, labels = batch
        logits = self(images)
        accuracy.update(logits, labels)
        loss = F.cross_entropy(logits, labels)
        self.log(f"{stage}/loss", loss, batch_size=len(images), sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy)
