"""Train an estimator to know where images belong."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import lightning
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from eqrestore_lightning.functional import circular_shift, zero_fill_shift
from eqrestore_lightning.metrics import (
    AngleAccuracy,
    AngleDistance,
    CircularShiftDistance,
    ShiftAccuracy,
)
from eqrestore_lightning.nn import TrainableEstimator
from eqrestore_lightning.training._callbacks import RestoredImageGrid
from eqrestore_lightning.training._draw import draw_for_batch
from eqrestore_lightning.weights import build_estimator, estimator_config

ShiftFill = Literal["circular", "zeros"]
_WARMUP_STEPS = 500
_SHIFTS = {"circular": circular_shift, "zeros": zero_fill_shift}


class RestorerModule(lightning.LightningModule):
    r"""Train an estimator by cross-entropy over positions: the right shift shall score highest.

    Batches are images, or tuples whose first entry is the images; labels are not needed. Images are
    floating, of shape `(batch, channels, *spatial)`, and stand where they belong. As a
    `TranslationEstimator` is equivariant, circular shifts teach it nothing new; shifts with zero
    fill teach it to find images that have lost some of their content. A `RotationEstimator` or
    `RotoTranslationEstimator` sees every image turned by a random angle: pixels do not turn without
    a trace.

    Logs `train/loss` and `train/constant_scores` (images whose scores were all equal, of a dead
    network), and for `val` and `test` `loss`, and for shifts `shift_accuracy` (exact),
    `shift_accuracy_1px` and `shift_distance` (pixels), for rotations `angle_accuracy_10deg` (within
    10°) and `angle_distance` (degrees), each an epoch's. At the end a picture shows images as they
    are, moved, and restored (`RestoredImageGrid`, for 2-D images of one or three channels).

    The loss sees the scores times a learnt factor, which becomes part of the estimator's last layer
    at the end of training: scores are log-probabilities up to a constant.

    Args:
        estimator: A `TranslationEstimator`, `RotationEstimator` or other `TrainableEstimator`, or
            the configuration of one.
        learning_rate: Of AdamW; it rises over the first steps, stays for a quarter of training and
            then falls exponentially by a factor of 1,000.
        weight_decay: Of AdamW.
        max_shift: Largest shift along each axis applied to training and evaluation images, pixels;
            0 for rotations alone.
        fill: What enters where a shifted image leaves: `"circular"` or `"zeros"`. The corners of a
            turned image are filled as its estimator says.
        gradient_clip_norm: Largest norm of the gradient, unless the `Trainer` says otherwise.
        seed: Decides the shifts or angles; together with the step, so that they depend neither on
            the number of processes nor on where training was resumed.

    Raises:
        TypeError: If `estimator` is of another type.
        ValueError: If a number is out of range or `fill` is another word.

    Source: Section 5 and Appendix D; Cross-entropy with target 0 is the paper's objective (maximise
    entry 0), normalised.

    >>> from eqrestore_lightning import TranslationEstimator
    >>> module = RestorerModule(TranslationEstimator(1, (32, 32)))
    >>> module.training_step(torch.rand(4, 1, 32, 32), 0).shape
    torch.Size([])
    """

    def __init__(
        self,
        estimator: TrainableEstimator | Mapping[str, Any],
        *,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.0,
        max_shift: int = 0,
        fill: ShiftFill = "circular",
        gradient_clip_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        given = build_estimator(estimator) if isinstance(estimator, Mapping) else estimator
        if not isinstance(given, TrainableEstimator):
            raise TypeError(
                f"Expected `estimator` to be a TrainableEstimator or its configuration, "
                f"but got {type(given).__name__}."
            )
        estimator = given
        if fill not in get_args(ShiftFill):
            raise ValueError(
                f"Expected `fill` to be one of {get_args(ShiftFill)}, but got {fill!r}."
            )
        if not 0 <= max_shift <= min(estimator.spatial_size):
            raise ValueError(
                f"Expected `max_shift` to be from 0 to the size of the image, "
                f"{min(estimator.spatial_size)}, but got {max_shift}."
            )
        estimator.random_element(0, max_shift=max_shift)  # tells if it does not shift
        for name, value in (
            ("learning_rate", learning_rate),
            ("gradient_clip_norm", gradient_clip_norm),
        ):
            if not value > 0:
                raise ValueError(f"Expected `{name}` to be above 0, but got {value}.")
        if not weight_decay >= 0:
            raise ValueError(f"Expected `weight_decay` to be at least 0, but got {weight_decay}.")
        self.save_hyperparameters(
            {
                "estimator": estimator_config(estimator),
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "max_shift": max_shift,
                "fill": fill,
                "gradient_clip_norm": gradient_clip_norm,
                "seed": seed,
            }
        )
        self.estimator = estimator
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.val_metrics = _metrics(estimator, "val/")
        self.test_metrics = _metrics(estimator, "test/")

    def forward(self, x: Tensor) -> Tensor:
        """Score every element: `(batch, channels, *spatial)` to `(batch, *elements)`."""
        return self.log_scale.exp() * self.estimator(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Give the cross-entropy of one batch."""
        del batch_idx
        attached = self._trainer is not None
        x, element = self._moved(batch, self.trainer.fit_loop.total_batch_idx if attached else 0)
        scores = self(x)
        loss = self.estimator.loss(scores, element)
        if attached:
            constant = self.estimator.constant(scores.detach()).sum().float()
            self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
            self.log(
                "train/constant_scores",
                constant,
                on_step=False,
                on_epoch=True,
                reduce_fx="sum",
                sync_dist=True,
            )
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure one validation batch."""
        self._evaluation_step(batch, batch_idx, "val", self.val_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure one test batch."""
        self._evaluation_step(batch, batch_idx, "test", self.test_metrics)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Give `shift`, pixels, `angle`, degrees, and `margin` of images as they come."""
        del batch_idx
        scores = self.estimator.exact_scores(_images(batch))
        found = self._parts(self.estimator.locate(scores, _images(batch)))
        return {**found, "margin": self.estimator.margin(scores)}

    def configure_optimizers(self) -> Any:
        """Build AdamW with its warm-up, plateau and exponential fall.

        Raises:
            ValueError: If the trainer does not say when it will end.
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
        if math.isinf(self.trainer.estimated_stepping_batches):
            raise ValueError(
                "Expected the `Trainer` to have `max_epochs` or `max_steps`, from which the "
                "learning rate falls, but got neither."
            )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(_WARMUP_STEPS, max(1, total // 10))

        def factor(step: int) -> float:
            fall = max(0.0, (step / total - 0.25) / 0.75)
            return float(min(1.0, (step + 1) / warmup) * math.pow(1e-3, fall))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to the norm given here, unless the `Trainer` has its own."""
        if gradient_clip_val is None:
            gradient_clip_val = float(self.hparams["gradient_clip_norm"])
        self.clip_gradients(
            optimizer,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm or "norm",
        )

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Add the picture at the end, unless the `Trainer` has one already."""
        if any(isinstance(callback, RestoredImageGrid) for callback in self._callbacks()):
            return []
        return [RestoredImageGrid()]

    def on_train_end(self) -> None:
        """Make the factor of the loss part of the estimator, and say if the network is dead."""
        self.estimator.scale_scores(float(self.log_scale.detach().exp()))
        self.log_scale.detach().zero_()
        dead = self.trainer.callback_metrics.get("train/constant_scores", torch.zeros(()))
        if dead > 0 and self.trainer.is_global_zero:
            warnings.warn(
                f"Expected scores to tell places apart, but in the last epoch all scores were "
                f"equal for {int(dead)} training images: the network is dead for them, or they are "
                f"blank. Such images cannot be restored; train again with another seed, more "
                f"channels or `skip=True`.",
                stacklevel=2,
            )

    def _callbacks(self) -> list[Any]:
        return [] if self._trainer is None else list(self.trainer.callbacks)  # type: ignore[attr-defined]

    def _evaluation_step(
        self, batch: Any, batch_idx: int, stage: str, metrics: nn.ModuleDict
    ) -> None:
        x, element = self._moved(batch, batch_idx)
        scores = self(x)
        found, moved = self._parts(self.estimator.locate(scores, x)), self._parts(element)
        for part in metrics:
            collection = cast(MetricCollection, metrics[part])
            collection.update(found[part], moved[part])
            self.log_dict(collection)
        loss = self.estimator.loss(scores, element)
        self.log(f"{stage}/loss", loss, batch_size=len(x), sync_dist=True, on_epoch=True)

    def _parts(self, element: Tensor) -> dict[str, Tensor]:
        """Split elements into `shift`, whole numbers, and `angle`, as far as there are both."""
        columns = _columns(self.estimator)
        parts = {part: element[:, entries] for part, entries in columns.items()}
        if "shift" in parts:
            parts["shift"] = parts["shift"].long()
        return parts

    def _moved(self, batch: Any, step: int) -> tuple[Tensor, Tensor]:
        """Move images by elements that neither the number of processes nor resuming changes."""
        x = _images(batch)
        parameters = self.hparams

        def draw(count: int, generator: torch.Generator) -> Tensor:
            return self.estimator.random_element(
                count, max_shift=int(parameters["max_shift"]), generator=generator
            )

        element = draw_for_batch(
            draw, len(x), trainer=self._trainer, seed=int(parameters["seed"]), step=step
        ).to(x.device)
        shift = _SHIFTS[parameters["fill"]]
        return self.estimator.apply_element(x, element, shift=shift), element


def _columns(estimator: TrainableEstimator) -> dict[str, list[int]]:
    """Say which entries of an element are counted in whole steps, and which is an angle."""
    columns: dict[str, list[int]] = {}
    for entry, name in enumerate(estimator.element_names):
        columns.setdefault("angle" if name == "angle" else "shift", []).append(entry)
    return columns


def _metrics(estimator: TrainableEstimator, prefix: str) -> nn.ModuleDict:
    """Give the metrics of `shift` and of `angle`, whichever the estimator finds."""
    columns = _columns(estimator)
    metrics: dict[str, dict[str, Metric | MetricCollection]] = {}
    if "shift" in columns:
        periods = [estimator.periods[entry] for entry in columns["shift"]]
        metrics["shift"] = {
            "shift_accuracy": ShiftAccuracy(periods),
            "shift_accuracy_1px": ShiftAccuracy(periods, tolerance=1),
            "shift_distance": CircularShiftDistance(periods),
        }
    if "angle" in columns:
        metrics["angle"] = {
            "angle_accuracy_10deg": AngleAccuracy(tolerance=10),
            "angle_distance": AngleDistance(),
        }
    # equal counts in a first batch do not make metrics the same
    return nn.ModuleDict(
        {
            part: MetricCollection(some, prefix=prefix, compute_groups=False)
            for part, some in metrics.items()
        }
    )


def _images(batch: Any) -> Tensor:
    images = batch if isinstance(batch, Tensor) else batch[0]
    if not isinstance(images, Tensor):
        raise TypeError(
            f"Expected a batch to be images or to begin with them, but got {type(images).__name__}."
        )
    return images
