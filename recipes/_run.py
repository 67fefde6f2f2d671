"""What the recipes share: stages that are reused, tables, pictures, weights, one W&B run."""

import datetime
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
import wandb
from _origin import origin, stage_settings, written_by
from jsonargparse import auto_cli
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from safetensors import safe_open
from torch import nn
from typing_extensions import override

import eqrestore_lightning
from eqrestore_lightning import (
    ClassifierModule,
    Estimator,
    RestorerModule,
    RestoreTransform,
    build_preset,
    save_estimator,
)
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.data._module import DataModule
from eqrestore_lightning.evaluation import Evaluation
from eqrestore_lightning.evaluation._found import shifts_found
from eqrestore_lightning.evaluation._restorers import Finder
from eqrestore_lightning.evaluation._results import wandb_is_offline
from eqrestore_lightning.files._markdown import markdown_table
from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.training._checkpoint import AtomicCheckpointIO
from eqrestore_lightning.training._classifier import load_classifier
from eqrestore_lightning.training._launch import trainer_options

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("EQRESTORE_DATA", "data"))
CHECKPOINT_EVERY = datetime.timedelta(minutes=10)


class Run:
    """One run of a recipe: stages of training, tables, pictures and weights, in one W&B run.

    Everything is written below `output`. A finished stage is reused and an interrupted one resumed
    by the same command. Another process that asks for the same folder meanwhile is refused; results
    of runs with another `config` are replaced.
    """

    publish: ClassVar[bool] = False
    """Whether `close` writes `docs/results/NAME.md`."""

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
        self._closing = ExitStack()
        if is_rank_zero():
            self._closing.enter_context(only_process(output))
            remove_parts(output)
        self.logger = self._open([*tags, name])

    def fit(
        self,
        stage: str,
        module: L.LightningModule,
        data: Any,
        *,
        epochs: int | None = None,
        minutes: float | None = None,
        launcher_precision: bool = False,
        **options: Any,
    ) -> float:
        """Train a module, or load the result of the same stage, and return seconds of training.

        A checkpoint is written after each epoch and every ten minutes; the same command resumes it.
        `data` is a `DataModule`, or batches with `settings`, what determines them in JSON types.
        `launcher_precision` is that of the launcher (`--precision bf16-mixed`) rather than float32;
        `options` are further arguments of `lightning.Trainer`.
        """
        launched = trainer_options()
        if not launcher_precision:
            launched.pop("precision", None)
        options = {**launched, **options}
        folder = self.output / stage
        checkpoint = folder / f"{stage}.ckpt"
        settings = stage_settings(module, data, epochs, minutes, options)
        found = {"settings": settings, "seconds": 0.0, "finished": False, **self._stage(stage)}
        if found["settings"] != settings:
            raise ValueError(
                f"Expected {folder} to be empty or to contain this very stage, {settings}, but it "
                f"contains {found['settings']}; remove it or choose another `output`."
            )
        if found["finished"] and checkpoint.is_file():
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
            module.load_state_dict(state)
            self.say(f"Reusing {checkpoint}.")
            return float(found["seconds"])
        trainer = self._trainer(stage, epochs, minutes, options)
        self._train(trainer, stage, module, data, found)
        return self.seconds(stage)

    def _trainer(
        self, stage: str, epochs: int | None, minutes: float | None, options: Mapping[str, Any]
    ) -> L.Trainer:
        folder = self.output / stage
        saving: dict[str, Any] = {"filename": stage, "enable_version_counter": False}
        run = self.logger.experiment if is_rank_zero() else None
        defaults: dict[str, Any] = {
            "max_epochs": -1 if epochs is None else epochs,
            "max_time": None if minutes is None else datetime.timedelta(minutes=minutes),
            "logger": _StageLogger(experiment=run, prefix=stage, save_dir=folder),
            "default_root_dir": folder,
            "plugins": [AtomicCheckpointIO()],
            "enable_model_summary": False,
            "log_every_n_steps": 1,
        }
        callbacks = [
            *options.get("callbacks", []),
            ModelCheckpoint(folder, save_on_train_epoch_end=True, **saving),
            ModelCheckpoint(folder, train_time_interval=CHECKPOINT_EVERY, **saving),
        ]
        return L.Trainer(**{**defaults, **options, "callbacks": callbacks})

    def _train(
        self,
        trainer: L.Trainer,
        stage: str,
        module: L.LightningModule,
        data: Any,
        record: dict[str, Any],
    ) -> None:
        checkpoint = self.output / stage / f"{stage}.ckpt"
        resumed = checkpoint if checkpoint.is_file() else None
        if resumed:
            self.say(f"Resuming from {resumed}.")
        self._record(stage, record)
        where = {"datamodule" if isinstance(data, DataModule) else "train_dataloaders": data}
        start = time.perf_counter()
        try:
            trainer.fit(module, **where, ckpt_path=resumed, weights_only=True)
        finally:
            record["seconds"] += time.perf_counter() - start
            self._record(stage, record)
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.save_checkpoint(checkpoint)
        self._record(stage, {**record, "finished": True})
        if isinstance(data, DataModule):
            data.trainer = None  # whoever asks for batches next is one process

    def _record(self, stage: str, record: Mapping[str, Any]) -> None:
        if is_rank_zero():
            folder = self.output / stage
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(folder / "stage.json", {**record, **origin()})

    def fit_classifier(
        self, stage: str, data: DataModule, *, given: str | None = None, **options: Any
    ) -> nn.Module:
        """Train a classifier in a stage, and return it on the CPU; `given` is loaded instead.

        `options` are arguments of `fit` and of `ClassifierModule`.
        """
        if given is not None:
            return load_classifier(given)
        L.seed_everything(self.seed, verbose=False)
        how = _taken(options, "epochs", "minutes", "launcher_precision")
        module = ClassifierModule(data.in_channels, data.num_classes, seed=self.seed, **options)
        self.fit(stage, module, data, **how)
        return module.cpu()

    def fit_restorer(
        self,
        stage: str,
        data: DataModule,
        preset: str,
        *,
        learning_rate: float = 1e-2,
        motion: Motion | None = None,
        **options: Any,
    ) -> RestoreTransform:
        """Train the network of a preset in a stage, and return the restorer on the CPU.

        `options` are arguments of `fit`, and replace those of the preset.
        """
        L.seed_everything(self.seed, verbose=False)
        how = _taken(options, "epochs", "minutes", "launcher_precision")
        network = build_preset(preset, data.in_channels, data.spatial_size or (), **options)
        rate = learning_rate
        module = RestorerModule(network, motion=motion, learning_rate=rate, seed=self.seed)
        self.fit(stage, module, data, **how)
        return RestoreTransform(network.cpu())

    def seconds(self, stage: str) -> float:
        """Return how long a stage was trained."""
        return float(self._stage(stage)["seconds"])

    def add_table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print rows with the same keys as a Markdown table, keep them, and log them."""
        self._add(title, markdown_table(rows), rows)
        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.logger.experiment.log({f"tables/{title}": table})

    def add_found(
        self, title: str, images: ImageTensors, restorers: Mapping[str, Finder]
    ) -> dict[str, float]:
        """Add how often restorers find shifts, and return the shares of the first, trained one."""
        found = {name: shifts_found(images, each) for name, each in restorers.items()}
        self.add_table(title, [{"restorer": name, **shares} for name, shares in found.items()])
        exact, within = (share / 100 for share in next(iter(found.values())).values())
        return {"exact": exact, "within_1_pixel": within}

    def add_evaluation(
        self,
        title: str,
        evaluation: Evaluation,
        *,
        measures: Sequence[str] | None = None,
        reference: Mapping[str, Sequence[float]] | None = None,
        picture: str | None = None,
    ) -> None:
        """Add the table of an evaluation and its curves; `picture` names a file below `output`."""
        table = evaluation.table(measures=measures, reference=reference)
        self._add(title, table, evaluation.rows())
        evaluation.log(self.logger, title)
        if picture:
            evaluation.draw(self.output / picture, title=title)
            self.add_picture(self.output / picture)

    def add_picture(self, path: Path) -> None:
        """Log a picture, or an animation if it is a GIF."""
        kind = wandb.Video if path.suffix == ".gif" else wandb.Image
        self.logger.experiment.log({path.name: kind(str(path))})

    def save_weights(
        self,
        name: str,
        estimator: Estimator,
        *,
        stage: str,
        metrics: Mapping[str, float],
        bundle: bool = False,
        **options: Any,
    ) -> Path:
        """Write an estimator, with notes on the `stage` that trained it and what was measured.

        `bundle` copies both into the package; `options` are those of `save_estimator`.
        """
        trained = self._stage(stage)
        settings = trained["settings"]
        length = {key: settings[key] for key in ("epochs", "minutes") if key in settings}
        notes = {
            **origin(),
            "seed": self.seed,
            "weights": sum(tensor.numel() for tensor in estimator.state_dict().values()),
            "training_seconds": round(trained["seconds"], 1),
            "training": {
                **length,
                **{key: settings[key] for key in ("precision", "data")},
                **{key: trained[key] for key in ("command", "launcher")},
            },
            "metrics": dict(metrics),
        }
        path = self.output / f"{name}.safetensors"
        save_estimator(estimator, path, metadata={"notes": json.dumps(notes)}, **options)
        self.results[f"weights {name}"] = notes
        self.logger.experiment.summary.update({f"{name}/{key}": v for key, v in metrics.items()})
        if bundle:
            folder = Path(eqrestore_lightning.__file__).parent / "weights"
            with whole_file(folder / path.name) as part:
                shutil.copyfile(path, part)
            with safe_open(path, framework="pt") as file:
                measured = {**notes, "digest": file.metadata()["digest"]}
            entries = _read_json(folder / "index.json")
            entries[name] = {**entries.get(name, {}), **measured}  # purpose, data … are kept
            _write_json(folder / "index.json", dict(sorted(entries.items())))
        return path

    def say(self, text: str) -> None:
        """Print, in one process only."""
        if is_rank_zero():
            print(text, flush=True)

    def close(self) -> None:
        """Write `tables.md` and `results.json`, the page if asked to, and end the W&B run.

        Tables that an earlier run with the same settings wrote are kept.
        """
        path = self.output / "results.json"
        found = _read_json(path)
        found = found if found.get("config") == self.config else {}
        tables = {**found.get("tables", {}), **self.tables}
        text = "\n\n".join(f"## {title}\n\n{table}" for title, table in tables.items()) + "\n"
        _write_text(self.output / "tables.md", text)
        about = {"config": self.config, "origin": origin(), "tables": tables}
        _write_json(path, {**found, **about, **self.results})
        if self.publish:
            page = ROOT / "docs" / "results" / f"{self.name}.md"
            page.parent.mkdir(parents=True, exist_ok=True)
            _write_text(page, f"# {self.name}\n\n{written_by()}\n\n{text}")
            self.say(f"Wrote {page}.")
        self.say(f"Finished in {time.perf_counter() - self._started:.0f} s; see {self.output}.")
        wandb.finish()
        self._closing.close()

    def _add(self, title: str, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.tables[title] = table
        self.results[title] = [dict(row) for row in rows]
        self.say(f"\n{title}\n\n{table}\n")

    def _stage(self, stage: str) -> dict[str, Any]:
        return _read_json(self.output / stage / "stage.json")

    def _open(self, tags: Sequence[str]) -> WandbLogger:
        offline = wandb_is_offline()
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


class _StageLogger(WandbLogger):
    """Log the settings of a stage under its name, beside those of other stages."""

    @override
    def log_hyperparams(self, params: Any) -> None:  # a mapping, as Lightning's modules have it
        super().log_hyperparams({self._prefix: dict(params)})


def command_line(main: Callable[..., None]) -> None:
    """Call `main` with the command line; `--publish` writes `docs/results/NAME.md` as well."""
    arguments = sys.argv[1:]
    Run.publish = "--publish" in arguments
    auto_cli(main, args=[argument for argument in arguments if argument != "--publish"])


def is_rank_zero() -> bool:
    """Return whether this process is the one that evaluates, prints and writes."""
    return rank() == 0


def rank() -> int:
    """Return the number of this process."""
    return int(os.environ.get("RANK", "0"))


def median_seconds(work: Callable[[], object], *, min_seconds: float = 2.0) -> float:
    """Return the median time of a call, measured for at least `min_seconds`."""
    from torch.utils import benchmark  # imports much, and may warn

    timer = benchmark.Timer("work()", globals=locals(), num_threads=torch.get_num_threads())
    work()
    return float(timer.blocked_autorange(min_run_time=min_seconds).median)


def _taken(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Remove some options, and return them."""
    return {name: options.pop(name) for name in names if name in options}


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
