"""Figures of the paper and of others on CIFAR-10, and how its classifiers are trained here."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eqrestore_lightning import ClassifierModule
from eqrestore_lightning.classifiers._architectures import Architecture
from eqrestore_lightning.training._draw import step_generator
from eqrestore_lightning.training._schedule import elapsed_share, num_training_steps

PAPER_TABLE_1 = {
    "accuracy, paper: no restorer": [88.21, 86.58, 85.9, 83.65, 82.16, 80.46, 79.37, 77.71, 76.01],
    "accuracy, paper: restored": [88.18] * 9,
}
PAPER_TABLE_2: dict[Architecture, str] = {
    "vgg16": "89.27 / 83.40 → 89.23",
    "resnet18": "88.21 / 82.16 → 88.18",
    "densenet121": "92.14 / 90.46 → 92.12",
    "mobilenet_v2": "88.10 / 83.36 → 88.09",
}
# ResNet-18 on CIFAR-10, each trained anew (the table published with TIPS): accuracy, and the share
# of images that keep their class under shifts with zero fill and circular ones, %.
PUBLISHED = {
    "max-pooling, published": (91.57, 87.41, 89.92),
    "BlurPool, published": (93.29, 90.54, 97.83),
    "APS, published": (94.07, 92.74, 100.0),
    "LPS, published": (94.45, 93.61, 100.0),
    "TIPS, published": (98.12, 98.67, 100.0),
}
SIZES = {0.0: 16, 0.4: 24, 0.6: 32, 0.8: 40}
"""Size of training images, pixels, from each share of the training on."""

_IMAGE = 32  # pixels of CIFAR-10 without its border
_SMALLEST = {"vgg16": _IMAGE}  # pixels that an architecture takes; 16 for others
_PEAK = {"mobilenet_v2": 0.1}  # of the learning rate; 0.2 for others
_WARMUP = 0.2  # share of the training in which the learning rate rises
_HOLE = 8  # pixels


class PaperClassifier(ClassifierModule):
    """Train by SGD, on mirrored images with a hole, for a number of epochs or for some time.

    The learning rate rises and falls once, to 0 at the end. Images lose their border and are
    reduced, which makes the first epochs cheap; the last ones see the padded images, as a network
    that never saw the border fails there. No image is translated, unless `motion` does it. How far
    training has come is known from steps or `max_time`, both of which are kept in checkpoints.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of classes.
        architecture: Which network, with its stem for small images.
        options: Other arguments of `ClassifierModule`.

    Source: One cycle: Smith and Topin, 2017; holes: DeVries and Taylor, 2017; growing images and no
        decay of norms and biases, as in fast published trainings.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, architecture: Architecture, **options: Any
    ) -> None:
        settings = {"learning_rate": _PEAK.get(architecture, 0.2), "weight_decay": 5e-4, **options}
        super().__init__(in_channels, num_classes, architecture=architecture, **settings)
        self.smallest = _SMALLEST.get(architecture, 0)
        self.classifier.to(memory_format=torch.channels_last)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the smoothed cross-entropy of one batch, at the size of the moment."""
        del batch_idx
        images, labels = batch
        done = self.trainer.global_step / num_training_steps(self.trainer)
        share = min(1.0, max(done, elapsed_share(self.trainer)))
        rate = float(self.hparams["learning_rate"]) * one_cycle(share)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = rate
        size = max(self.smallest, *(size for start, size in SIZES.items() if start <= share))
        images = reduced(self._augmented(images), size)
        logits = self(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log_dict(
            {"train/loss": loss, "train/accuracy": accuracy, "train/learning_rate": rate},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
        )
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build SGD with Nesterov momentum; norms and biases do not decay."""
        decay = float(self.hparams["weight_decay"])
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in self.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        rate = float(self.hparams["learning_rate"])
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)

    def _augmented(self, images: Tensor) -> Tensor:
        """Move images as `motion` does, mirror half of them, and cut a hole into each."""
        images = super()._augmented(images)
        step = self.trainer.fit_loop.total_batch_idx
        generator = step_generator(self.seed + 1, step)
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        mirrored = mirrored.to(images.device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
        border = (images.shape[-1] - _IMAGE) // 2
        corner = border + torch.randint(_IMAGE - _HOLE + 1, (len(images), 2), generator=generator)
        place = torch.arange(images.shape[-1])
        inside = (place >= corner[..., None]) & (place < corner[..., None] + _HOLE)
        hole = inside[:, 0, :, None] & inside[:, 1, None, :]
        return images.masked_fill(hole[:, None].to(images.device), 0.5)


def one_cycle(share: float) -> float:
    """Return the factor on the peak of the learning rate, from the share of the training.

    >>> [round(one_cycle(share), 3) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    if share < _WARMUP:
        return 0.1 + 0.9 * share / _WARMUP
    return 0.5 + 0.5 * math.cos(math.pi * (share - _WARMUP) / (1 - _WARMUP))


def reduced(images: Tensor, size: int) -> Tensor:
    """Cut off the border of images and reduce them, unless they are to stay whole.

    Args:
        images: Shape `(batch, channels, height, width)`, square.
        size: Of the result, pixels.
    """
    border = (images.shape[-1] - _IMAGE) // 2
    if size >= images.shape[-1]:
        return images
    inner = images[..., border : border + _IMAGE, border : border + _IMAGE]
    if size == _IMAGE:
        return inner
    return F.interpolate(inner, size, mode="bilinear", antialias=True)


def fastest_precision() -> str:
    """Return `"bf16-mixed"` where bfloat16 is multiplied in hardware, else `"32-true"`."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
    return "bf16-mixed" if flags & {"avx512_bf16", "amx_bf16"} else "32-true"
