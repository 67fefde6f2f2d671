"""What the translation recipes share: train, measure, draw, and log to one W&B run."""

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib as mpl
import torch
import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib import pyplot as plt
from torch import Tensor, nn

import eqrestore_lightning
from eqrestore_lightning import (
    ClassifierModule,
    RestorerModule,
    RestoreTransform,
    TranslationEstimator,
    circular_shift,
    evaluate_shifts,
    random_shift,
    save_estimator,
)
from eqrestore_lightning.data import InMemoryDataModule
from eqrestore_lightning.training import ShiftResult, shift_table, trainer_options

mpl.use("Agg")


@dataclass
class Experiment:
    """One data set, one classifier, one restorer.

    Attributes:
        name: Name of the recipe, the W&B run and the bundled weights.
        command: The command that runs it.
        data: Where images come from.
        network: Arguments of `TranslationEstimator`.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        learning_rate: Of the restorer.
        output: Folder for everything written.
        seed: Decides everything random.
        reference: Published accuracies for shifts of up to 0 … 8 pixels, percent.
        restorer_data: Where the restorer's training images come from, if not from `data`.
    """

    name: str
    command: str
    data: InMemoryDataModule
    network: dict[str, Any]
    classifier_epochs: int
    restorer_epochs: int
    learning_rate: float
    output: Path
    seed: int
    reference: Mapping[str, Sequence[float]] = field(default_factory=dict)
    restorer_data: InMemoryDataModule | None = None

    def run(self, *, bundle: bool = False) -> None:
        """Train, measure, draw and log; `bundle` puts the weights into the package."""
        start = time.perf_counter()
        L.seed_everything(self.seed)
        logger = _wandb_logger(self)
        classifier = ClassifierModule(self.data.in_channels, self.data.num_classes)
        self._fit(classifier, self.data, self.classifier_epochs, logger, "classifier")
        L.seed_everything(self.seed)
        estimator = TranslationEstimator(
            self.data.in_channels, self.data.spatial_size, **self.network
        )
        restorer = RestorerModule(estimator, learning_rate=self.learning_rate, seed=self.seed)
        training = time.perf_counter()
        source = self.restorer_data or self.data
        trainer = self._fit(restorer, source, self.restorer_epochs, logger, "restorer")
        training = time.perf_counter() - training
        if trainer.is_global_zero:  # judge on one device: several would repeat images
            self._judge(classifier, estimator, logger, training, bundle=bundle)
            print(f"Finished in {time.perf_counter() - start:.0f} s; see {self.output}.")
            wandb.finish()

    def _fit(
        self,
        module: L.LightningModule,
        data: InMemoryDataModule,
        epochs: int,
        logger: WandbLogger,
        stage: str,
    ) -> L.Trainer:
        run = logger.experiment if _is_rank_zero() else None
        folder = self.output / stage
        trainer = L.Trainer(
            max_epochs=epochs,
            logger=WandbLogger(experiment=run, prefix=stage, save_dir=folder),
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            **trainer_options(),
        )
        trainer.fit(module, datamodule=data)
        trainer.save_checkpoint(folder / f"{stage}.ckpt")
        return trainer

    def _judge(
        self,
        classifier: ClassifierModule,
        estimator: TranslationEstimator,
        logger: WandbLogger,
        training: float,
        *,
        bundle: bool,
    ) -> None:
        self.data.trainer = None  # from here on, one process
        restore = RestoreTransform(estimator.cpu())
        results = evaluate_shifts(
            classifier.cpu(), self.data.test_dataloader(), restore=restore, seed=self.seed
        )
        table = shift_table(results, reference=self.reference)
        metrics = {
            "exact": results[0].restored_exactly,
            "within_1_pixel": _within_one_pixel(restore, self.data),
            "accuracy": results[0].accuracy,
            "accuracy_restored": results[0].restored_accuracy,
        }
        weights = sum(parameter.numel() for parameter in estimator.parameters())
        print(
            f"\n{table}\n\nRestorer: {weights} weights, trained in {training:.0f} s; test images "
            f"restored exactly {100 * metrics['exact']:.2f} %, within 1 pixel "
            f"{100 * metrics['within_1_pixel']:.2f} %."
        )
        notes = {
            "recipe": f"recipes/{self.name}.py",
            "command": self.command,
            "seed": self.seed,
            "weights": weights,
            "training_seconds": round(training, 1),
            "hardware": hardware(),
            "versions": {
                "eqrestore-lightning": eqrestore_lightning.__version__,
                "torch": torch.__version__,
            },
            "metrics": metrics,
        }
        path = self.output / f"{self.name}.safetensors"
        save_estimator(estimator, path, metadata={"notes": json.dumps(notes)})
        (self.output / "table.md").write_text(table + "\n", encoding="utf-8")
        (self.output / "results.json").write_text(
            json.dumps({**notes, "results": [asdict(result) for result in results]}, indent=2),
            encoding="utf-8",
        )
        pictures = [
            draw_restored(
                self.output / "restored.png",
                self.data.dataset("test").images[:8],
                restore,
                classifier,
                seed=self.seed,
            ),
            draw_accuracy(self.output / "accuracy.png", results, self.name),
        ]
        _log(logger, results, metrics, pictures)
        if bundle:
            _bundle(self.name, path, notes)


def hardware() -> str:
    """Name the machine that a figure was measured on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} cores of {model}, no GPU"


@torch.no_grad()
def draw_restored(
    path: Path,
    images: Tensor,
    restore: RestoreTransform,
    classifier: nn.Module,
    *,
    seed: int,
) -> Path:
    """Draw images as they are, shifted and restored, each with the class it is given.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, channels, height, width)`.
        restore: Moves images back.
        classifier: From images of 0…1 to logits.
        seed: Decides the shifts, of up to half the image.
    """
    generator = torch.Generator().manual_seed(seed)
    shift = random_shift(len(images), images.shape[-1] // 2, generator=generator)
    shifted = circular_shift(images, shift)
    rows = {"original": images, "shifted": shifted, "restored": restore(shifted)}
    upright = classifier(images.float() / 255).argmax(1)
    figure, axes = plt.subplots(3, len(images), figsize=(1.15 * len(images) + 1, 4.4))
    for row, (name, pictures) in enumerate(rows.items()):
        classes = classifier(pictures.float() / 255).argmax(1)
        for column, axis in enumerate(axes[row]):
            axis.imshow(pictures[column].permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
            same = bool(classes[column] == upright[column])
            axis.set_xlabel(
                f"“{int(classes[column])}”", color="tab:green" if same else "tab:red", labelpad=2
            )
        axes[row][0].set_ylabel(name)
    figure.suptitle("The same frozen classifier; its answer below each image", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def draw_accuracy(path: Path, results: Sequence[ShiftResult], name: str) -> Path:
    """Draw accuracy against the size of shifts, with and without restorer."""
    figure, axis = plt.subplots(figsize=(5, 3.4))
    sizes = [result.max_shift for result in results]
    axis.plot(sizes, [100 * result.restored_accuracy for result in results], "o-", label="restored")
    axis.plot(sizes, [100 * result.accuracy for result in results], "s--", label="no restorer")
    axis.set(xlabel="circular shifts up to, pixels", ylabel="accuracy, %", title=name)
    axis.legend()
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _is_rank_zero() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _within_one_pixel(restore: RestoreTransform, data: InMemoryDataModule) -> float:
    error = torch.cat([restore.estimate(images) for images, _ in data.test_dataloader()]).abs()
    return float((error <= 1).all(1).double().mean())


def _wandb_logger(experiment: Experiment) -> WandbLogger:
    offline = os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)
    if offline and _is_rank_zero():
        print(f"Logging to W&B offline, below {experiment.output}; `wandb sync` uploads it.")
    experiment.output.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        project="eqrestore-lightning",
        name=f"{experiment.name}-seed{experiment.seed}",
        group=experiment.name,
        tags=["translation", experiment.name],
        save_dir=experiment.output,
        mode="offline" if offline else "online",
        config={
            "network": experiment.network,
            "classifier_epochs": experiment.classifier_epochs,
            "restorer_epochs": experiment.restorer_epochs,
            "learning_rate": experiment.learning_rate,
            "batch_size": experiment.data.batch_size,
            "seed": experiment.seed,
            "hardware": hardware(),
        },
    )


def _log(
    logger: WandbLogger,
    results: Sequence[ShiftResult],
    metrics: dict[str, float],
    pictures: Sequence[Path],
) -> None:
    run = logger.experiment
    run.define_metric("shift/*", step_metric="shift/max_shift")
    columns = list(asdict(results[0]))
    rows = [list(asdict(result).values()) for result in results]
    for row in rows:
        run.log({f"shift/{name}": value for name, value in zip(columns, row, strict=True)})
    run.log({"table": wandb.Table(columns=[*columns], data=rows)})
    run.log({path.stem: wandb.Image(str(path)) for path in pictures})
    run.summary.update(metrics)


def _bundle(name: str, path: Path, notes: dict[str, Any]) -> None:
    folder = Path(eqrestore_lightning.__file__).parent / "weights"
    shutil.copyfile(path, folder / path.name)
    index = folder / "index.json"
    entries = json.loads(index.read_text("utf-8")) if index.is_file() else {}
    entries[name] = notes
    index.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n", encoding="utf-8")
