"""What the recipes share: stages that are reused, tables, pictures, weights, one W&B run."""

import json
import os
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import wandb
from _rules import Restorer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from torch import nn
from torch.utils import benchmark

import eqrestore_lightning
from eqrestore_lightning import (
    ClassifierModule,
    Estimator,
    RestorerModule,
    RestoreTransform,
    build_preset,
    save_estimator,
)
from eqrestore_lightning.data import DataModule, ImageTensors
from eqrestore_lightning.evaluation import Evaluation, shifts_found
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.training import load_classifier, trainer_options

DATA = Path(os.environ.get("EQRESTORE_DATA", "data"))
_NO_MATTER = ("root", "download", "num_workers")  # settings that leave the images as they are


class Run:
    """One run of a recipe: stages of training, tables, pictures and weights, in one W&B run.

    Everything is written below `output`. A finished stage is reused and an interrupted one resumed
    at its last epoch, so it is enough to run the same command again.

    Args:
        name: Name of the recipe; groups W&B runs.
        output: Folder for everything written.
        seed: Seed of everything random.
        tags: For W&B, besides the name.
        config: Settings of the recipe, for W&B; results of runs with other settings are replaced.
    """

    def __init__(
        self,
        name: str,
        output: Path,
        *,
        seed: int = 0,
        tags: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.output, self.seed = name, output, seed
        self.config = json.loads(json.dumps({"seed": seed, **(config or {})}))
        self.results: dict[str, Any] = {}
        self.tables: dict[str, str] = {}
        self._started = time.perf_counter()
        output.mkdir(parents=True, exist_ok=True)
        self.logger = self._open([*tags, name])

    def fit(
        self,
        stage: str,
        module: L.LightningModule,
        data: DataModule,
        *,
        epochs: int,
        launcher_precision: bool = False,
    ) -> float:
        """Train a module, or load the result of the same stage.

        Args:
            stage: Name of its folder and prefix of its curves.
            module: What to train, with fresh weights.
            data: Where images come from.
            epochs: Passes over the training images.
            launcher_precision: Whether to train in the precision that the launcher was given
                (`--precision bf16-mixed`) rather than in float32.

        Returns:
            Seconds of training, of all runs together that worked on the stage.

        Raises:
            ValueError: If the folder contains a stage that was trained differently.
        """
        options = trainer_options()
        if not launcher_precision:
            options.pop("precision", None)
        folder = self.output / stage
        finished, interrupted = folder / f"{stage}.ckpt", folder / "interrupted.ckpt"
        settings = _settings(module, data, epochs, options)
        found = self._stage(stage)
        if found and found["settings"] != settings:
            raise ValueError(
                f"Expected {folder} to be empty or to contain this very stage, {settings}, but it "
                f"contains {found['settings']}; remove it or choose another `output`."
            )
        if found and finished.is_file():
            state = torch.load(finished, map_location="cpu", weights_only=True)["state_dict"]
            module.load_state_dict(state)
            self.say(f"Reusing {finished}.")
            return float(found["seconds"])
        record = {"settings": settings, "seconds": 0.0, **found, **origin()}
        resumed = interrupted.is_file()
        if resumed:
            self.say(f"Resuming from {interrupted}.")
        if is_rank_zero():
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(folder / "stage.json", record)
        trainer = self._trainer(stage, epochs, options)
        start = time.perf_counter()
        try:
            path = interrupted if resumed else None
            trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
        finally:
            record["seconds"] += time.perf_counter() - start
            if is_rank_zero():
                _write_json(folder / "stage.json", record)
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.save_checkpoint(finished)
        data.trainer = None  # whoever asks for batches next is one process
        if is_rank_zero():
            interrupted.unlink(missing_ok=True)
        return float(record["seconds"])

    def fit_classifier(
        self,
        stage: str,
        data: DataModule,
        *,
        epochs: int,
        given: str | None = None,
        launcher_precision: bool = False,
        **options: Any,
    ) -> nn.Module:
        """Train a classifier, or load a given one; returns it on the CPU.

        Args:
            stage: As for `fit`.
            data: Where images come from.
            epochs: Passes over the training images.
            given: A trained one instead, `.ckpt` or `package.module:name`.
            launcher_precision: As for `fit`.
            options: Of `ClassifierModule`.
        """
        if given is not None:
            return load_classifier(given)
        L.seed_everything(self.seed, verbose=False)
        module = ClassifierModule(data.in_channels, data.num_classes, seed=self.seed, **options)
        self.fit(stage, module, data, epochs=epochs, launcher_precision=launcher_precision)
        return module.cpu()

    def fit_restorer(
        self,
        stage: str,
        data: DataModule,
        preset: str,
        *,
        epochs: int,
        learning_rate: float = 1e-2,
        motion: Motion | None = None,
        **options: Any,
    ) -> RestoreTransform:
        """Train the network of a preset to restore images; returns the restorer on the CPU.

        Args:
            stage: As for `fit`.
            data: Where images come from, all of one size.
            preset: Name of the preset, see `build_preset`.
            epochs: Passes over the training images.
            learning_rate: Of `RestorerModule`.
            motion: Of `RestorerModule`.
            options: Arguments of the estimator that replace those of the preset.
        """
        L.seed_everything(self.seed, verbose=False)
        estimator = build_preset(preset, data.in_channels, data.spatial_size or (), **options)
        module = RestorerModule(
            estimator, motion=motion, learning_rate=learning_rate, seed=self.seed
        )
        self.fit(stage, module, data, epochs=epochs)
        return RestoreTransform(estimator.cpu())

    def seconds(self, stage: str) -> float:
        """Return how long a stage was trained."""
        return float(self._stage(stage)["seconds"])

    def add_table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print rows with the same keys as a Markdown table, keep them, and log them."""
        self._add(title, markdown(rows), rows)
        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.logger.experiment.log({f"tables/{title}": table})

    def add_found(
        self, title: str, images: ImageTensors, restorers: Mapping[str, Restorer]
    ) -> dict[str, float]:
        """Print how often restorers find shifts of up to half of each axis, keep and log it.

        Args:
            title: Of the table.
            images: To shift.
            restorers: Name to restorer, the trained one first.

        Returns:
            Shares of the first one, as `save_weights` notes them.
        """
        found = {name: shifts_found(images, each) for name, each in restorers.items()}
        self.add_table(title, [{"restorer": name, **shares} for name, shares in found.items()])
        exact, near = (share / 100 for share in next(iter(found.values())).values())
        return {"exact": exact, "within_1_pixel": near}

    def add_evaluation(
        self,
        title: str,
        evaluation: Evaluation,
        *,
        reference: Mapping[str, Sequence[float]] | None = None,
        picture: str | None = None,
    ) -> None:
        """Print the table of an evaluation, keep it, and log it with its curves.

        Args:
            title: Of the table and the curves.
            evaluation: What `evaluate` returned.
            reference: Further rows, such as published figures, percent.
            picture: Name of a file below `output` for a picture of the curves.
        """
        self._add(title, evaluation.table(reference=reference), evaluation.rows())
        evaluation.log(self.logger, title)
        if picture:
            evaluation.draw(self.output / picture, title=title)
            self.add_picture(self.output / picture)

    def add_picture(self, path: Path) -> None:
        """Log a picture, or an animation if it is a GIF."""
        kind = wandb.Video if path.suffix == ".gif" else wandb.Image
        self.logger.experiment.log({path.stem: kind(str(path))})

    def save_weights(
        self,
        name: str,
        estimator: Estimator,
        *,
        stage: str,
        metrics: Mapping[str, float],
        bundle: bool = False,
    ) -> Path:
        """Write an estimator with notes on its origin.

        Args:
            name: Of the file, `NAME.safetensors`.
            estimator: What to write.
            stage: In which it was trained.
            metrics: What was measured, shares from 0 to 1.
            bundle: Whether to copy file and notes into the package.

        Returns:
            The file.
        """
        trained = self._stage(stage)
        notes = {
            **origin(),
            "seed": self.seed,
            "weights": sum(tensor.numel() for tensor in estimator.state_dict().values()),
            "training_seconds": round(trained["seconds"], 1),
            "training": {
                **{key: trained["settings"][key] for key in ("epochs", "precision", "data")},
                **{key: trained[key] for key in ("command", "launcher")},
            },
            "metrics": dict(metrics),
        }
        path = self.output / f"{name}.safetensors"
        save_estimator(estimator, path, metadata={"notes": json.dumps(notes)})
        self.results[f"weights {name}"] = notes
        self.logger.experiment.summary.update({f"{name}/{key}": v for key, v in metrics.items()})
        if bundle:
            folder = Path(eqrestore_lightning.__file__).parent / "weights"
            shutil.copyfile(path, folder / path.name)
            entries = {**_read_json(folder / "index.json"), name: notes}
            _write_json(folder / "index.json", dict(sorted(entries.items())))
        return path

    def say(self, text: str) -> None:
        """Print, in one process only."""
        if is_rank_zero():
            print(text, flush=True)

    def close(self) -> None:
        """Write `tables.md` and `results.json`, and end the W&B run.

        Tables that an earlier run with the same settings wrote, such as those of other sections,
        are kept.
        """
        path = self.output / "results.json"
        found = _read_json(path)
        found = found if found.get("config") == self.config else {}
        tables = {**found.get("tables", {}), **self.tables}
        text = "\n\n".join(f"## {title}\n\n{table}" for title, table in tables.items())
        (self.output / "tables.md").write_text(text + "\n", encoding="utf-8")
        about = {"config": self.config, "origin": origin(), "tables": tables}
        _write_json(path, {**found, **about, **self.results})
        self.say(f"Finished in {time.perf_counter() - self._started:.0f} s; see {self.output}.")
        wandb.finish()

    def _add(self, title: str, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.tables[title] = table
        self.results[title] = [dict(row) for row in rows]
        self.say(f"\n{title}\n\n{table}\n")

    def _trainer(self, stage: str, epochs: int, options: Mapping[str, Any]) -> L.Trainer:
        folder = self.output / stage
        run = self.logger.experiment if is_rank_zero() else None
        return L.Trainer(
            max_epochs=epochs,
            logger=WandbLogger(experiment=run, prefix=stage, save_dir=folder),
            default_root_dir=folder,
            callbacks=[
                ModelCheckpoint(folder, filename="interrupted", enable_version_counter=False)
            ],
            enable_model_summary=False,
            log_every_n_steps=1,
            **options,
        )

    def _stage(self, stage: str) -> dict[str, Any]:
        return _read_json(self.output / stage / "stage.json")

    def _open(self, tags: Sequence[str]) -> WandbLogger:
        offline = os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)
        if offline:
            self.say(f"Logging to W&B offline, below {self.output}; `wandb sync` uploads it.")
        return WandbLogger(
            project="eqrestore-lightning",
            name=f"{self.name}-seed{self.seed}",
            group=self.name,
            tags=list(tags),
            save_dir=self.output,
            mode="offline" if offline else "online",
            config={**self.config, **origin()},
        )


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    lines += [f"| {' | '.join(map(_cell, row.values()))} |" for row in rows]
    return "\n".join(lines)


def is_rank_zero() -> bool:
    """Return whether this process is the one that evaluates, prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def origin() -> dict[str, Any]:
    """Return what is running: command, options of the launcher, hardware and versions."""
    recipe = f"recipes/{Path(sys.argv[0]).name}"
    launcher = {k: v for k, v in os.environ.items() if k.startswith("LT_") or k == "WORLD_SIZE"}
    return {
        "recipe": recipe,
        "command": shlex.join([recipe, *sys.argv[1:]]),
        "launcher": dict(sorted(launcher.items())),
        "hardware": hardware(),
        "versions": {
            "eqrestore-lightning": eqrestore_lightning.__version__,
            "torch": torch.__version__,
            "lightning": L.__version__,
        },
    }


def median_seconds(work: Callable[[], object], *, min_seconds: float = 2.0) -> float:
    """Return the median time of a call, measured for at least `min_seconds`."""
    threads = torch.get_num_threads()
    timer = benchmark.Timer("work()", globals={"work": work}, num_threads=threads)
    work()
    return float(timer.blocked_autorange(min_run_time=min_seconds).median)


def hardware() -> str:
    """Return the name of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} cores of {model}, no GPU"


def _settings(
    module: L.LightningModule, data: DataModule, epochs: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what determines the result of a stage, in plain JSON types."""
    images = {key: value for key, value in data.settings.items() if key not in _NO_MATTER}
    settings = {
        "module": {"kind": type(module).__name__, **dict(module.hparams)},
        "data": {**images, "fingerprint": data.fingerprint()},
        "epochs": epochs,
        "precision": options.get("precision", "32-true"),
    }
    return dict(json.loads(json.dumps(settings)))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _write_json(path: Path, content: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 0.005 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else re.sub(r"\s+", " ", str(value))
