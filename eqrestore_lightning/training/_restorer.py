"""Train an estimator."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from eqrestore_lightning.metrics._motion import motion_metrics
from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training._callbacks import RestoredImageGrid
from eqrestore_lightning.training._checkpoint import DigestedModule
from eqrestore_lightning.training._draw import draw_for_batch, motion_argument
from eqrestore_lightning.training._schedule import elapsed_share, num_training_steps
from eqrestore_lightning.weights._files import build_estimator, estimator_config

_WARMUP_STEPS = 500
_GRADIENT_NORM = 1.0  # the largest, unless the `Trainer` has its own


class RestorerModule(DigestedModule):
    """Train an estimator by cross-entropy, so that the motion that was applied scores highest.

    Batches are images, or tuples whose first entry is the images; labels are not needed. Images are
    floating, of shape `(batch, channels, *spatial)`, and not moved. A `TranslationEstimator` is
    equivariant to circular shifts, which therefore teach it nothing new; shifts with zero fill
    teach it to find images that have lost some of their content. A `RotationEstimator` or
    `RotoTranslationEstimator` sees every image turned by a random angle, because turning pixels
    leaves traces.

    Logs `train/loss` and `train/constant_scores` (number of images whose scores were all equal, as
    those of a dead network are), and for `val` and `test` `loss` and the metrics of every field of
    the motion: for shifts `shift_accuracy` (exact), `shift_accuracy_1px` and `shift_distance`
    (pixels), for rotations `angle_accuracy_10deg` (within 10°) and `angle_distance` (degrees), once
    an epoch. At the end a picture, `restored.png`, shows images as they are, moved, and restored
    (2-D images of one or three channels).

    The loss sees the scores times a learned factor, which becomes part of the estimator's last
    layer at the end of training, so that scores are log-probabilities up to a constant.

    Args:
        estimator: What to train, or its configuration.
        motion: What is applied to images in training and evaluation, such as
            `Shift(max_shift=4, fill="zeros")`, or its configuration; it must have the fields that
            the estimator finds. By default `estimator.training_motion`.
        learning_rate: Of AdamW; it rises over the first steps, stays for a quarter of training and
            then falls exponentially by a factor of 1,000. Training ends with the `max_epochs`,
            `max_steps` or `max_time` of the `Trainer`, whichever comes first.
        weight_decay: Of AdamW.
        seed: Determines the motions, together with the step, so that they depend neither on the
            number of processes nor on where training was resumed.

    Raises:
        TypeError: If `estimator` or `motion` is of another type.
        ValueError: If the estimator has nothing to train, or `motion` has other fields than it
            finds, or cannot move images of its size.

    Source: Section 5 and Appendix D; cross-entropy with target 0 is the paper's objective (maximize
    entry 0), normalized.

    >>> from eqrestore_lightning import TranslationEstimator
    >>> module = RestorerModule(TranslationEstimator(1, (32, 32)))
    >>> module.training_step(torch.rand(4, 1, 32, 32), 0).shape
    torch.Size([])
    """

    def __init__(
        self,
        estimator: Estimator | Mapping[str, Any],
        *,
        motion: Motion | Mapping[str, Any] | None = None,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.estimator = _estimator(estimator).train()  # loaded ones are in eval mode
        self.motion = motion_argument(motion, self.estimator.training_motion)
        _check_motion(self.motion, self.estimator)
        self.save_hyperparameters(
            {
                "estimator": estimator_config(self.estimator),
                "motion": self.motion.config,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "seed": seed,
            }
        )
        self._elapsed = 0.0  # share of the trainer's `max_time`
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.val_metrics = _metrics(self.motion, "val/")
        self.test_metrics = _metrics(self.motion, "test/")

    def forward(self, x: Tensor) -> Tensor:
        """Score every element: `(batch, channels, *spatial)` to `(batch, *elements)`."""
        return self.log_scale.exp() * self.estimator(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the cross-entropy of one batch."""
        del batch_idx
        attached = self._trainer is not None
        x, element = self._moved(batch, self.trainer.fit_loop.total_batch_idx if attached else 0)
        scores = self(x)
        loss = self.estimator.loss(scores, element)
        if attached:
            constant = self.estimator.constant(scores.detach()).sum().float()
            epoch: dict[str, Any] = {
                "on_step": False,
                "on_epoch": True,
                "sync_dist": True,
                "batch_size": len(x),
            }
            self.log("train/loss", loss, **epoch)
            self.log("train/constant_scores", constant, reduce_fx="sum", **epoch)
        return loss

    def on_train_epoch_end(self) -> None:
        """Stop where the loss is not finite, as all weights are lost then."""
        loss = float(self.trainer.callback_metrics.get("train/loss", 0.0))
        if not math.isfinite(loss):
            raise ValueError(
                f"Expected a finite loss, but got {loss} in epoch {self.current_epoch}: look for "
                f"training images that are not finite, or lower the `learning_rate`."
            )

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure one validation batch."""
        self._evaluation_step(batch, batch_idx, "val", self.val_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure one test batch."""
        self._evaluation_step(batch, batch_idx, "test", self.test_metrics)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the element found, by field, and the `margin` of images as they come."""
        del batch_idx
        scores = self.estimator.exact_scores(_images(batch))
        found = self.estimator.locate(scores, _images(batch))
        return {**found, "margin": self.estimator.margin(scores)}

    def configure_optimizers(self) -> Any:
        """Build AdamW with a schedule of warm-up, plateau and exponential decay.

        Raises:
            ValueError: If no end of known length is set, toward which the learning rate could fall.
        """
        parameters = self.hparams
        rate = float(parameters["learning_rate"])
        groups: list[dict[str, Any]] = [
            {"params": list(self.estimator.parameters())},
            {"params": [self.log_scale], "lr": 10 * rate, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups,
            lr=rate,
            betas=(0.9, 0.99),
            weight_decay=float(parameters["weight_decay"]),
        )
        total = num_training_steps(self.trainer)
        warmup = max(1.0, min(10.0 * _WARMUP_STEPS, total) // 10)

        def factor(step: int) -> float:
            rise = max((step + 1) / warmup, 10 * self._elapsed)
            fall = max(0.0, (min(1.0, max(step / total, self._elapsed)) - 0.25) / 0.75)
            return float(min(1.0, rise) * math.pow(1e-3, fall))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Record how much of the trainer's `max_time` has passed."""
        del batch, batch_idx
        self._elapsed = elapsed_share(self.trainer)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient to 1, unless the `Trainer` has `gradient_clip_val`."""
        self.clip_gradients(
            optimizer,
            gradient_clip_val=_GRADIENT_NORM if gradient_clip_val is None else gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm or "norm",
        )

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Add the picture at the end, unless the `Trainer` has one already."""
        callbacks: Any = self.trainer.callbacks  # type: ignore[attr-defined]  # set by a mixin
        has_own = any(isinstance(callback, RestoredImageGrid) for callback in callbacks)
        return [] if has_own else [RestoredImageGrid()]

    def on_fit_end(self) -> None:
        """Move the factor of the loss into the estimator, also where nothing was left to train."""
        self.estimator.scale_scores(float(self.log_scale.detach().exp()))
        self.log_scale.detach().zero_()

    def on_train_end(self) -> None:
        """Warn if the network is dead."""
        dead = self.trainer.callback_metrics.get("train/constant_scores", torch.zeros(()))
        if dead > 0 and self.trainer.is_global_zero:
            warnings.warn(
                f"Expected scores to differ between places, but in the last epoch all scores were "
                f"equal for {int(dead)} training images: the network is dead for them, or they are "
                f"blank. Such images cannot be restored; train again with another seed, more "
                f"channels or `skip=True`.",
                stacklevel=2,
            )

    def _evaluation_step(
        self, batch: Any, batch_idx: int, stage: str, metrics: nn.ModuleDict
    ) -> None:
        x, element = self._moved(batch, batch_idx)
        scores = self(x)
        found = self.estimator.locate(scores, x)
        for name, period in self.motion.periods(tuple(x.shape[2:])).items():
            collection = cast(MetricCollection, metrics[name])
            collection.update(found[name], element[name].to(found[name]), period)
            self.log_dict(collection)
        loss = self.estimator.loss(scores, element)
        self.log(f"{stage}/loss", loss, batch_size=len(x), sync_dist=True, on_epoch=True)

    def _moved(self, batch: Any, step: int) -> tuple[Tensor, Element]:
        """Move images in a way that depends neither on the number of processes nor on resuming."""
        x = _images(batch)
        self.estimator.check_input(x)
        if self.estimator.spatial_size is None:
            self.motion.check(tuple(x.shape[2:]))
        element = draw_for_batch(
            self.motion, x, trainer=self._trainer, seed=int(self.hparams["seed"]), step=step
        )
        return self.motion.apply(x, element), element


def _estimator(given: Estimator | Mapping[str, Any]) -> Estimator:
    estimator = build_estimator(given) if isinstance(given, Mapping) else given
    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"Expected `estimator` to be an Estimator or its configuration, "
            f"but got {type(estimator).__name__}."
        )
    if not any(parameter.requires_grad for parameter in estimator.parameters()):
        raise ValueError(
            f"Expected `estimator` to have weights to train, but a {type(estimator).__name__} "
            f"has none."
        )
    return estimator


def _check_motion(motion: Motion, estimator: Estimator) -> None:
    names, found = (
        sorted(field.name for field in each.fields) for each in (motion, estimator.motion)
    )
    if names != found:
        raise ValueError(
            f"Expected `motion` to have the fields that the estimator finds, {found}, "
            f"but got {names}."
        )
    if estimator.spatial_size is not None:
        motion.check(estimator.spatial_size)


def _metrics(motion: Motion, prefix: str) -> nn.ModuleDict:
    """Return the metrics of every field of a motion."""
    return nn.ModuleDict(
        {
            field.name: MetricCollection(dict(motion_metrics(field)), prefix=prefix)
            for field in motion.fields
        }
    )


def _images(batch: Any) -> Tensor:
    """Return the images of a batch: the batch itself, or the first entry of a tuple or list."""
    images = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(images, Tensor):
        found = type(images).__name__
        if isinstance(images, Mapping):
            found = f"a dictionary of {', '.join(map(repr, images))}"
        raise TypeError(
            f"Expected a batch to be images, or a tuple that begins with them, but got {found}; "
            f"a `collate_fn` of the loader may put the images first."
        )
    return images
