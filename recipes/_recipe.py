"""What the recipes share: stages that are reused, tables and pictures, one W&B run."""

import json
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
import wandb
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

import eqrestore_lightning
from eqrestore_lightning import save_estimator
from eqrestore_lightning.data import InMemoryDataModule
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training import ShiftResult, shift_table, trainer_options

DATA = Path(os.environ.get("EQRESTORE_DATA", "data"))


class Recipe:
    """One run of a recipe: trains in stages, collects tables and pictures, logs to one W&B run.

    A stage that is finished is reused, one that was interrupted goes on at its last epoch: run the
    same command again.

    Args:
        name: Name of the recipe; groups W&B runs.
        output: Folder for everything written.
        command: The command that runs it.
        seed: Decides everything random.
        tags: For W&B, beside the name.
        config: For W&B.
    """

    def __init__(
        self,
        name: str,
        output: Path,
        *,
        command: str,
        seed: int,
        tags: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.output = output
        self.command = command
        self.seed = seed
        self.started = time.perf_counter()
        output.mkdir(parents=True, exist_ok=True)
        self.results: dict[str, Any] = {}
        self.tables: dict[str, str] = {}
        self.logger = self._open(tags, dict(config or {}))

    def fit(
        self,
        stage: str,
        module: L.LightningModule,
        data: InMemoryDataModule,
        *,
        epochs: int,
        launcher_precision: bool = False,
    ) -> float:
        """Train a module, or load what the same stage came to before.

        Args:
            stage: Name of its folder and its curves.
            module: What to train; a module with fresh weights, drawn from the seed.
            data: Where images come from.
            epochs: Times that training goes through them.
            launcher_precision: Whether to train in the precision that the launcher was given
                (`--precision bf16-mixed`), rather than in float32.

        Returns:
            Seconds of training, of this run or of the one whose result is reused.

        Raises:
            ValueError: If the folder holds a stage that was trained otherwise.
        """
        folder = self.output / stage
        options = trainer_options()
        if not launcher_precision:
            options.pop("precision", None)
        settings = _settings(module, data, epochs, options)
        finished, record = folder / f"{stage}.ckpt", folder / "stage.json"
        found = json.loads(record.read_text("utf-8")) if record.is_file() else {}
        if found and found["settings"] != settings:
            raise ValueError(
                f"Expected {folder} to hold nothing or this very stage, {settings}, but it holds "
                f"{found['settings']}; remove it or give another `output`."
            )
        if found and finished.is_file():
            state = torch.load(finished, map_location="cpu", weights_only=True)["state_dict"]
            module.load_state_dict(state)
            self.say(f"Reusing {finished}.")
            return float(found["seconds"])
        last = ModelCheckpoint(folder, filename="interrupted", enable_version_counter=False)
        trainer = L.Trainer(
            max_epochs=epochs,
            logger=WandbLogger(experiment=self._run(), prefix=stage, save_dir=folder),
            default_root_dir=folder,
            callbacks=[last],
            enable_model_summary=False,
            log_every_n_steps=1,
            **options,
        )
        interrupted = folder / "interrupted.ckpt"
        if interrupted.is_file():
            self.say(f"Going on from {interrupted}.")
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(record, {"settings": settings, "seconds": found.get("seconds", 0.0)})
        start = time.perf_counter()
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=interrupted if interrupted.is_file() else None,
            weights_only=True,
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        seconds = time.perf_counter() - start
        trainer.save_checkpoint(finished)
        data.trainer = None  # whoever asks it for batches next is one process
        if trainer.is_global_zero:
            _write_json(record, {"settings": settings, "seconds": seconds})
            interrupted.unlink(missing_ok=True)
        return seconds

    def add_results(
        self,
        title: str,
        results: Sequence[ShiftResult],
        *,
        reference: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Print accuracy against shift, keep it, and log it as curves, chart and table."""
        self._add(title, shift_table(results, reference=reference))
        rows = [{**asdict(result), "stability": result.stability} for result in results]
        self.results[title] = rows
        self.log_table(title, rows)
        run = self.logger.experiment
        run.define_metric(f"{title}/*", step_metric=f"{title}/max_shift")
        sizes = sorted({result.max_shift for result in results})
        names = list(dict.fromkeys(result.restorer for result in results))
        for size in sizes:
            point = {
                f"{title}/{measure}, {row['restorer']}": row[measure]
                for row in rows
                if row["max_shift"] == size
                for measure in ("accuracy", "consistency", "exact")
            }
            run.log({f"{title}/max_shift": size, **point})
        accuracies = [[r.accuracy for r in results if r.restorer == name] for name in names]
        chart = wandb.plot.line_series(
            sizes, accuracies, keys=names, title=f"{title}: accuracy against shift", xname="pixels"
        )
        run.log({f"charts/{title}": chart})

    def add_rows(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print rows of one shape as a Markdown table, keep them, and log them."""
        lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
        lines += [f"| {' | '.join(map(_cell, row.values()))} |" for row in rows]
        self._add(title, "\n".join(lines))
        self.results[title] = [dict(row) for row in rows]
        self.log_table(title, rows)

    def log_table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows to W&B."""
        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.logger.experiment.log({f"tables/{title}": table})

    def add_picture(self, path: Path) -> None:
        """Log a picture, or an animation if it is a GIF."""
        kind = wandb.Video if path.suffix == ".gif" else wandb.Image
        self.logger.experiment.log({path.stem: kind(str(path))})

    def save_weights(
        self,
        name: str,
        estimator: Estimator,
        *,
        metrics: Mapping[str, float],
        training_seconds: float,
        bundle: bool,
    ) -> Path:
        """Write an estimator with notes on how it was made; `bundle` puts it into the package."""
        notes = {
            "recipe": next(word for word in self.command.split() if word.endswith(".py")),
            "command": self.command,
            "seed": self.seed,
            "weights": sum(tensor.numel() for tensor in estimator.state_dict().values()),
            "training_seconds": round(training_seconds, 1),
            "hardware": hardware(),
            "versions": {
                "eqrestore-lightning": eqrestore_lightning.__version__,
                "torch": torch.__version__,
            },
            "metrics": dict(metrics),
        }
        path = self.output / f"{name}.safetensors"
        save_estimator(estimator, path, metadata={"notes": json.dumps(notes)})
        self.results[f"weights {name}"] = notes
        self.logger.experiment.summary.update({f"{name}/{key}": v for key, v in metrics.items()})
        if bundle:
            _bundle(name, path, notes)
        return path

    def close(self) -> None:
        """Write `tables.md` and `results.json`, and end the W&B run.

        What the same command found for other sections, earlier or meanwhile, is kept.
        """
        path = self.output / "results.json"
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        if found.get("command") != self.command:
            found = {}
        tables = {**found.get("tables", {}), **self.tables}
        text = "\n\n".join(f"## {title}\n\n{table}" for title, table in tables.items())
        (self.output / "tables.md").write_text(text + "\n", encoding="utf-8")
        about = {"command": self.command, "hardware": hardware(), "tables": tables}
        _write_json(path, {**found, **about, **self.results})
        self.say(f"Finished in {time.perf_counter() - self.started:.0f} s; see {self.output}.")
        wandb.finish()

    def say(self, text: str) -> None:
        """Print, once and not in every process."""
        if is_rank_zero():
            print(text, flush=True)

    def _add(self, title: str, table: str) -> None:
        self.tables[title] = table
        self.say(f"\n{title}\n\n{table}\n")

    def _run(self) -> Any:
        return self.logger.experiment if is_rank_zero() else None

    def _open(self, tags: Sequence[str], config: dict[str, Any]) -> WandbLogger:
        offline = os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)
        if offline:
            self.say(f"Logging to W&B offline, below {self.output}; `wandb sync` uploads it.")
        return WandbLogger(
            project="eqrestore-lightning",
            name=f"{self.name}-seed{self.seed}",
            group=self.name,
            tags=[*tags, self.name],
            save_dir=self.output,
            mode="offline" if offline else "online",
            config={"seed": self.seed, "hardware": hardware(), "command": self.command, **config},
        )


def is_rank_zero() -> bool:
    """Say whether this process is the one that judges, prints and writes."""
    return os.environ.get("RANK", "0") == "0"


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


def _settings(
    module: L.LightningModule, data: InMemoryDataModule, epochs: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Say what decides the result of a stage, in plain JSON types."""
    settings = {
        "module": {"kind": type(module).__name__, **dict(module.hparams)},
        "data": {
            "kind": type(data).__name__,
            "spatial_size": list(data.spatial_size),
            "num_train": len(data.dataset("train")),
            "batch_size": data.batch_size,
            "seed": data.seed,
        },
        "epochs": epochs,
        "precision": options.get("precision", "32-true"),
    }
    return dict(json.loads(json.dumps(settings)))


def _write_json(path: Path, content: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else re.sub(r"\s+", " ", str(value))


def _bundle(name: str, path: Path, notes: dict[str, Any]) -> None:
    folder = Path(eqrestore_lightning.__file__).parent / "weights"
    shutil.copyfile(path, folder / path.name)
    index = folder / "index.json"
    entries = json.loads(index.read_text("utf-8")) if index.is_file() else {}
    entries[name] = notes
    index.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n", encoding="utf-8")
