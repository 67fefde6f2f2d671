"""Train a classifier."""

import math
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from eqrestore_lightning.classifiers import build_classifier
from eqrestore_lightning.classifiers._architectures import Architecture, Stem
from eqrestore_lightning.motions import Motion, Shift
from eqrestore_lightning.training._checkpoint import DigestedModule
from eqrestore_lightning.training._draw import draw_for_batch, motion_argument
from eqrestore_lightning.training._schedule import elapsed_share, num_training_steps

_STILL = Shift(max_shift=0)
_TIMED_STEPS = 10_000  # of a schedule that only `max_time` ends


class ClassifierModule(DigestedModule):
    """Train a classifier by cross-entropy, on images as they come or moved at random.

    Logs `train/loss`, and for `val` and `test` `loss` and `accuracy`.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of classes.
        architecture: Which network, see `classifiers.build_classifier`.
        stem: Its first layers, for small images or as torchvision has them.
        width: Factor on the number of its channels, for architectures that have one.
        learning_rate: Peak of AdamW's one-cycle schedule, which ends with the `max_epochs`,
            `max_steps` or `max_time` of the `Trainer`, whichever comes first.
        weight_decay: Of AdamW.
        motion: Applied to training images, such as `Shift(max_shift=4)`, or its configuration;
            none by default.
        seed: Determines these motions, together with the step, so that they depend neither on the
            number of processes nor on where training was resumed.

    Raises:
        TypeError: If `motion` is of another type.
        ValueError: If a name is unknown.

    Source: The augmentation is that of Figure 4 of the paper.

    >>> ClassifierModule(1, 10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        architecture: Architecture = "small_cnn",
        stem: Stem = "small",
        width: float = 1.0,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.01,
        motion: Motion | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.motion = motion_argument(motion, _STILL)
        self.save_hyperparameters(
            {
                "in_channels": in_channels,
                "num_classes": num_classes,
                "architecture": architecture,
                "stem": stem,
                "width": width,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "motion": self.motion.config,
                "seed": seed,
            }
        )
        self.seed = seed
        self._timed = False  # whether only `max_time` ends training
        self.classifier = build_classifier(
            architecture, in_channels, num_classes, stem=stem, width=width
        )
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits: `(batch, in_channels, height, width)` to `(batch, num_classes)`."""
        return self.classifier(x)  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the cross-entropy of one batch."""
        del batch_idx
        images, labels = batch
        loss = F.cross_entropy(self(self._augmented(images)), labels)
        if self._trainer is not None:
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
        """Return the classes of one batch, int64 of shape `(batch,)`."""
        del batch_idx
        images = batch if isinstance(batch, Tensor) else batch[0]
        return self(images).argmax(1)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        """Build AdamW with a one-cycle schedule.

        Raises:
            ValueError: If no end of known length is set, over which the learning rate could fall.
        """
        rate = float(self.hparams["learning_rate"])
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=rate, weight_decay=float(self.hparams["weight_decay"])
        )
        total = num_training_steps(self.trainer)
        self._timed = total == math.inf
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rate, total_steps=_TIMED_STEPS if self._timed else max(2, int(total))
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Go one step on, or to the share of `max_time` that has passed, whichever is further."""
        del metric
        step = 0 if self._timed else scheduler.last_epoch + 1
        step = max(step, int(elapsed_share(self.trainer) * scheduler.total_steps))
        scheduler.last_epoch = min(step, scheduler.total_steps - 1) - 1
        scheduler.step()

    def _augmented(self, images: Tensor) -> Tensor:
        """Move images in a way that depends neither on the number of processes nor on resuming."""
        if self.motion == _STILL:
            return images
        step = 0 if self._trainer is None else self.trainer.fit_loop.total_batch_idx
        element = draw_for_batch(
            self.motion, images, trainer=self._trainer, seed=self.seed, step=step
        )
        return self.motion.apply(images, element)

    def _evaluation_step(
        self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy
    ) -> None:
        images, labels = batch
        logits = self(images)
        accuracy.update(logits, labels)
        loss = F.cross_entropy(logits, labels)
        self.log(f"{stage}/loss", loss, batch_size=len(images), sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy)


def load_classifier(source: str) -> nn.Module:
    """Load a checkpoint (.ckpt) of a ClassifierModule, or import a network or what builds one.

    >>> type(load_classifier("torchvision.models:squeezenet1_0")).__name__
    'SqueezeNet'
    """
    if source.endswith(".ckpt"):
        if not Path(source).is_file():
            raise FileNotFoundError(f"Expected a checkpoint, but found none at {source}.")
        return ClassifierModule.load_from_checkpoint(source, map_location="cpu")
    if ":" not in source:
        raise ValueError(
            f"Expected `source` to end in .ckpt or to be package.module:name, but got {source!r}."
        )
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        found = pkgutil.resolve_name(source)
    except AttributeError as error:
        raise ImportError(f"Expected {source} to exist, but got: {error}.") from error
    finally:
        sys.path.remove(folder)
    built = found if isinstance(found, nn.Module) else found()
    if not isinstance(built, nn.Module):
        raise TypeError(
            f"Expected {source} to return a torch.nn.Module, but got {type(built).__name__}."
        )
    return built
