"""How `eqrestore fit` trains: on from where it was interrupted, and noting which run it is."""

import copy
import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import SafetensorError, safe_open
from tqdm import tqdm
from typing_extensions import override

from eqrestore_lightning.cli._device import Device, choose_device
from eqrestore_lightning.cli._fit_data import FitData, steps_per_epoch
from eqrestore_lightning.cli._fit_network import motion_to_train, open_estimator
from eqrestore_lightning.cli._fit_report import all_batches, describe_data, keep_better, report
from eqrestore_lightning.cli._quiet import under_lightning
from eqrestore_lightning.files._reading import reading
from eqrestore_lightning.files._writing import only_process, remove_parts
from eqrestore_lightning.training import RestorerModule
from eqrestore_lightning.training._callbacks import RestoredImageGrid
from eqrestore_lightning.training._checkpoint import AtomicCheckpointIO
from eqrestore_lightning.training._launch import trainer_options
from eqrestore_lightning.weights import save_estimator
from eqrestore_lightning.weights._digest import read_checkpoint

_EVERY = 200  # steps after which a checkpoint is written, at least


def is_finished(output: Path, settings: Mapping[str, Any], fingerprint: str) -> bool:
    """Return whether the output holds what the same settings made of the same images."""
    if not output.exists():
        return False
    try:
        with safe_open(output, framework="pt") as file:
            notes = file.metadata() or {}
        made_by = json.loads(notes.get("arguments", "{}"))
    except (SafetensorError, ValueError):
        notes, made_by = {}, {}
    if notes.get("data") == fingerprint and made_by == settings:
        return True
    raise FileExistsError(
        f"Expected `output` to be a new file, but {output} holds what other options or images "
        f"made; `--overwrite` replaces it."
    )


def fit(
    images: FitData, output: Path, settings: Mapping[str, Any], source: str | None, device: Device
) -> None:
    """Train, keep what is better, and write the weights and how good they are."""
    trainer = _trainer(images, output, settings, device)
    axes, corners = settings["axes"], settings["corners"]
    estimator = open_estimator(settings["network"], source, images, axes=axes, corners=corners)
    motion = motion_to_train(estimator, settings["max_shift"])
    rate = 3e-3 if source is None else 1e-3
    module = RestorerModule(estimator, learning_rate=rate, motion=motion, seed=settings["seed"])
    before = copy.deepcopy(estimator.state_dict())
    applied = motion or estimator.motion
    options: dict[str, Any] = {"seed": settings["seed"], "device": choose_device(device)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with only_process(output) if trainer.is_global_zero else nullcontext():
        if trainer.is_global_zero:
            describe_data(images)
        _train(trainer, module, images, output, {**settings, "images": images.fingerprint()})
        if source is not None:
            keep_better(estimator, before, images, applied, source, **options)
        if trainer.is_global_zero:
            notes = {"arguments": json.dumps(settings), "data": images.fingerprint()}
            save_estimator(estimator, output, metadata=notes)
            files = [output, *([_picture(output)] if estimator.num_spatial_dims == 2 else [])]
            print(f"Wrote {' and '.join(map(str, files))}.")  # noqa: T201
        conclusion = report(estimator, images, applied, **options)
        if trainer.is_global_zero:
            print(conclusion)  # noqa: T201
            _checkpoint(output).unlink(missing_ok=True)


def _trainer(
    images: FitData, output: Path, settings: Mapping[str, Any], device: Device
) -> lightning.Trainer:
    options = trainer_options(device=device if device == "auto" else choose_device(device))
    steps, minutes = settings["steps"], settings["minutes"]
    num_processes = options["devices"] * options["num_nodes"]
    every = math.ceil(_EVERY / steps_per_epoch(images, num_processes))  # epochs
    lightning.seed_everything(settings["seed"], verbose=False)
    checkpoint = ModelCheckpoint(
        output.parent,
        filename=_checkpoint(output).stem,
        every_n_epochs=every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    shown = next((shown for shown, _ in all_batches(images, "val", "cpu")), None)
    picture = RestoredImageGrid(_picture(output).name, shown)
    with under_lightning(""):
        return lightning.Trainer(
            max_steps=-1 if steps is None else steps,
            max_epochs=-1,
            max_time=None if minutes is None else timedelta(minutes=minutes),
            check_val_every_n_epoch=every,
            default_root_dir=output.parent,
            logger=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[checkpoint, picture],
            plugins=[AtomicCheckpointIO()],
            **options,
        )


def _train(
    trainer: lightning.Trainer,
    module: RestorerModule,
    images: FitData,
    output: Path,
    notes: Mapping[str, Any],
) -> None:
    """Train, from where an interrupted run with the same notes has stopped."""
    unfinished = _checkpoint(output)
    resumed = unfinished if _is_of_this_run(unfinished, notes) else None
    if trainer.is_global_zero:
        remove_parts(output, unfinished, _picture(output))
        if resumed:
            print(f"Going on from {resumed}.")  # noqa: T201
    steps, minutes = notes["steps"], notes["minutes"]
    bar = tqdm(
        desc="Training",
        total=steps if minutes is None else round(60 * minutes),
        unit="step" if minutes is None else "s",
        disable=None if trainer.is_global_zero else True,
        leave=False,
    )
    trainer.callbacks += [RunNotes(notes), Progress(bar)]  # type: ignore[attr-defined]  # a mixin's
    with under_lightning(f"the same command goes on, from {unfinished} if there is one"), bar:
        trainer.fit(module, datamodule=images, ckpt_path=resumed, weights_only=True)
    module.estimator.cpu()


def _is_of_this_run(path: Path, notes: Mapping[str, Any]) -> bool:
    """Return whether there is a checkpoint; raise `ValueError` if it is of another run."""
    if not path.is_file():
        return False
    with reading(f"{path} to be the checkpoint of an interrupted run"):
        found = read_checkpoint(path)["callbacks"][RunNotes.__name__]
    differing = {name: found.get(name) for name in notes if found.get(name) != notes[name]}
    if differing:
        wanted = {name: notes[name] for name in differing}
        raise ValueError(
            f"Expected {path}, which an interrupted run has left, to be of a run with {wanted}, "
            f"but got {differing}; remove it to begin anew, or repeat the command that was "
            f"interrupted."
        )
    return True


class Progress(lightning.Callback):
    """Move a bar: of steps, or of seconds where training ends by time."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if self.bar.disable:
            return
        place = trainer.global_step
        if self.bar.unit == "s":
            place = min(round(self.bar.format_dict["elapsed"]), self.bar.total)
        self.bar.update(place - self.bar.n)


class RunNotes(lightning.Callback):
    """Write into each checkpoint of which run it is: what determines the result, in JSON types."""

    def __init__(self, notes: Mapping[str, Any]) -> None:
        self.notes = dict(notes)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self.notes


def _checkpoint(output: Path) -> Path:
    return output.with_name(f"{output.stem}-unfinished.ckpt")


def _picture(output: Path) -> Path:
    return output.with_name(f"{output.stem}-restored.png")
