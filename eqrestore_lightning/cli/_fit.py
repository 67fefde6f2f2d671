"""The command `eqrestore fit`."""

import copy
import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from eqrestore_lightning.cli._device import Device, choose_device
from eqrestore_lightning.cli._fit_data import RESIZED, Sources
from eqrestore_lightning.files._writing import only_process, remove_parts

if TYPE_CHECKING:
    import lightning as pl

    from eqrestore_lightning.data._module import DataModule
    from eqrestore_lightning.motions import Motion
    from eqrestore_lightning.nn import Estimator
    from eqrestore_lightning.training import RestorerModule

Fill: TypeAlias = Literal["circular", "zeros"]
Corners: TypeAlias = Literal["zeros", "border", "reflection"]

_STEPS = 2_000  # from random weights
_MINUTES = 1.5  # from weights that know other images
_EVERY = 200  # steps after which a checkpoint is written, at least


def run(
    data: Path,
    output: Path,
    network: str | None = None,
    start: str | None = None,
    axes: list[int] | None = None,
    image_size: int | None = None,
    crop_sizes: list[int] | None = None,
    grayscale: bool = False,
    sources: Sources = "auto",
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int = 64,
    max_shift: int = 0,
    fill: Fill = "zeros",
    corners: Corners | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: Device = "auto",
) -> None:
    """Train a restorer on your own images or signals.

    Args:
        data: Folder of images, with or without class folders, or with folders train, val and test;
            or a file of signals: .npy of shape (n, channels, length) or (n, length), or .csv with
            one signal per row.
        output: File to write the weights to, ending in .safetensors. Next to it is written, under
            its name, a picture (-restored.png) that shows some images as they are, moved, and
            restored; and, while training, every now and then a checkpoint (-unfinished.ckpt). If
            training is interrupted, the same command goes on from there; until then the checkpoint
            can be used like the weights.
        network: Name of a network; by default one that suits the images, which are looked at.
            "photo" is for photographs of any size, "seam" for signals and for gray images of one
            size that fill the frame, "border" for images in a blank border, "centered" for objects
            placed by their center of mass, "paper" is the network of the paper; all of them
            undo shifts. "upright" undoes quarter turns, "rotation" rotations by any angle,
            "roto-translation" rotations and shifts, the latter two of small images of one size.
            Signals need "seam", "border", "centered" or "paper".
        start: Weights to continue from: a name of bundled weights, or a .safetensors or .ckpt file,
            whose network is then trained, whatever "network" is; or "scratch" for random weights.
            By default, the bundled weights that are named like the network, if there are any.
        axes: Axes along which images may have been shifted: -1 is the width (or the time of
            signals), -2 the height; all by default. "[-1]" is for panoramas.
        image_size: Resize images so that their shorter side has this many pixels, and keep the
            central square; 64 by default for "upright". Either this or
            crop_sizes is required if images differ in size.
        crop_sizes: Train on random square crops of these sizes, in pixels, read from disk as they
            are needed, so that there may be any number of images; "[64]" for instance. Most
            networks take one size.
        grayscale: Read one channel instead of three.
        sources: Whether images of one source, such as crops of one photograph, are kept together,
            not used for both training and testing: "auto" (those of one folder, or whose file names
            differ only in the numbers at their end) or "file" (each image is its own source).
        steps: How many batches to train on; 2,000 by default, from random weights.
        epochs: How many times to go through the images (for crops, through 200 batches), instead of
            a number of steps.
        minutes: Train for this long, instead of a number of steps; 1.5 by default, from weights
            that were trained before.
        batch_size: Number of images in a training step, over all processes; fewer if there are not
            enough images.
        max_shift: Train on images shifted by up to this many pixels, which then lack what has left
            them. Circular shifts need no training, so that 0 is right for them.
        fill: What enters where such an image leaves: "zeros", or "circular" for its other side.
        corners: What enters at the corners of rotated images, both in training and when they are
            restored: "zeros" (the default), "border" (the color of their border) or "reflection".
            With zeros, "roto-translation" would learn to look for the corners of photographs.
        seed: Determines the initial weights, the order and split of images, shifts and angles.
        overwrite: Whether to replace weights that the output holds already.
        device: Where to train; "auto" is a GPU ("cuda" or "mps") if there is one, or else the CPU.
    """
    from eqrestore_lightning.cli._checks import check_at_least, check_output_file
    from eqrestore_lightning.cli._fit_data import choose_network, is_signals, open_data
    from eqrestore_lightning.cli._fit_look import look_at
    from eqrestore_lightning.weights import load_estimator

    check_output_file(output, ".safetensors")
    check_at_least(1, image_size=image_size, batch_size=batch_size, steps=steps, epochs=epochs)
    check_at_least(0, max_shift=max_shift)
    _check_sizes(image_size, crop_sizes)
    _check_length(steps, epochs, minutes)
    look = None if is_signals(data) else look_at(data, grayscale=grayscale)
    network = choose_network(network, start, look, grayscale=grayscale)
    _check_network(network)
    if look is not None and look.gray and network == "border":
        grayscale = True
    source = _source(network, start, grayscale)
    if source is not None:
        load_estimator(source)  # fails before images are read
    if steps is epochs is minutes is None:
        steps, minutes = (_STEPS, None) if source is None else (None, _MINUTES)
    if image_size is None and crop_sizes is None:
        image_size = RESIZED.get(network)
    settings: dict[str, Any] = {
        "network": network,
        "start": start,
        "axes": axes,
        "image_size": image_size,
        "crop_sizes": crop_sizes,
        "grayscale": grayscale,
        "sources": sources,
        "steps": steps,
        "epochs": epochs,
        "minutes": minutes,
        "batch_size": batch_size,
        "max_shift": max_shift,
        "fill": fill,
        "corners": corners,
        "seed": seed,
    }
    images = open_data(
        data,
        network,
        look,
        image_size=image_size,
        crop_sizes=crop_sizes,
        grayscale=grayscale,
        sources=sources,
        batch_size=batch_size,
        seed=seed,
    )
    if not overwrite and _is_finished(output, settings, images.fingerprint()):
        print(  # noqa: T201
            f"Nothing to do: {output} is what this command makes. `--overwrite` trains again."
        )
        return
    _fit(images, output, settings, source, device)


def _fit(
    images: "DataModule",
    output: Path,
    settings: Mapping[str, Any],
    source: str | None,
    device: Device,
) -> None:
    """Train, keep what is better, and write the weights and how good they are."""
    from eqrestore_lightning.cli._fit_network import open_estimator
    from eqrestore_lightning.cli._fit_report import describe_data, keep_better, report
    from eqrestore_lightning.training import RestorerModule
    from eqrestore_lightning.weights import save_estimator

    seed = settings["seed"]
    trainer = _trainer(images, output, settings, device)
    estimator = open_estimator(
        settings["network"], source, images, settings["axes"], settings["corners"]
    )
    motion = _motion(estimator, settings["max_shift"], settings["fill"])
    rate = 3e-3 if source is None else 1e-3
    module = RestorerModule(estimator, learning_rate=rate, motion=motion, seed=seed)
    before = copy.deepcopy(estimator.state_dict())
    applied = motion or estimator.motion
    options: dict[str, Any] = {"seed": seed, "device": device}
    output.parent.mkdir(parents=True, exist_ok=True)
    with only_process(output) if trainer.is_global_zero else nullcontext():
        if trainer.is_global_zero:
            describe_data(images)
        _train(trainer, module, images, output, settings)
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


def _train(
    trainer: "pl.Trainer",
    module: "RestorerModule",
    images: "DataModule",
    output: Path,
    settings: Mapping[str, Any],
) -> None:
    """Train, from where an interrupted run of the same command has stopped."""
    from tqdm import tqdm

    from eqrestore_lightning.cli._fit_callbacks import Progress, RunNotes, interrupted_run
    from eqrestore_lightning.cli._fit_data import steps_per_epoch
    from eqrestore_lightning.cli._quiet import under_lightning

    notes = {**settings, "images": images.fingerprint()}
    checkpoint = interrupted_run(_checkpoint(output), notes)
    trainer.callbacks.append(RunNotes(notes))  # type: ignore[attr-defined]  # set by a mixin
    if trainer.is_global_zero:
        remove_parts(output, _checkpoint(output), _picture(output))
        if checkpoint:
            print(f"Going on from {checkpoint}.")  # noqa: T201
    minutes = settings["minutes"]
    per_epoch = steps_per_epoch(images, trainer.world_size)
    steps = settings["steps"] or (settings["epochs"] or 0) * per_epoch
    bar = tqdm(
        desc="Training",
        total=steps if minutes is None else round(60 * minutes),
        unit="step" if minutes is None else "s",
        disable=None if trainer.is_global_zero else True,
        leave=False,
    )
    trainer.callbacks.append(Progress(bar))  # type: ignore[attr-defined]  # set by a mixin
    left = f"the same command goes on, from {_checkpoint(output)} if there is one"
    with under_lightning(left), bar:
        trainer.fit(module, datamodule=images, ckpt_path=checkpoint, weights_only=True)
    module.estimator.cpu()


def _is_finished(output: Path, settings: Mapping[str, Any], fingerprint: str) -> bool:
    """Return whether the output holds what the same settings made of the same images.

    Raises:
        FileExistsError: If it holds anything else.
    """
    from safetensors import SafetensorError, safe_open

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


def _check_sizes(image_size: int | None, crop_sizes: list[int] | None) -> None:
    from eqrestore_lightning.cli._checks import check_at_least

    for size in crop_sizes or ():
        check_at_least(1, crop_sizes=size)
    if crop_sizes is not None and not crop_sizes:
        raise ValueError("Expected `crop_sizes` to name at least one size, but got none.")
    if image_size is not None and crop_sizes is not None:
        raise ValueError(
            f"Expected either `image_size` or `crop_sizes`, but got both: {image_size} and "
            f"{crop_sizes}."
        )


def _check_length(steps: int | None, epochs: int | None, minutes: float | None) -> None:
    if sum(length is not None for length in (steps, epochs, minutes)) > 1:
        raise ValueError("Expected only one of `steps`, `epochs` and `minutes`, but got more.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"Expected `minutes` to be finite and above 0, but got {minutes}.")


def _check_network(network: str) -> None:
    from eqrestore_lightning.nn import list_presets

    if network not in list_presets():
        raise ValueError(
            f"Expected `network` to be one of {', '.join(list_presets())}, but got {network!r}."
        )


def _source(network: str, start: str | None, grayscale: bool) -> str | None:
    """Return the weights to continue from, or `None` for random ones."""
    from eqrestore_lightning.weights import bundled_weights

    if start is not None:
        return None if start == "scratch" else start
    return network if network in bundled_weights() and not grayscale else None


def _trainer(
    images: "DataModule", output: Path, settings: Mapping[str, Any], device: Device
) -> "pl.Trainer":
    import lightning as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from eqrestore_lightning.cli._fit_data import steps_per_epoch
    from eqrestore_lightning.cli._quiet import under_lightning
    from eqrestore_lightning.training import (
        AtomicCheckpointIO,
        RestoredImageGrid,
        trainer_options,
    )

    options = trainer_options(device=device if device == "auto" else choose_device(device))
    steps, epochs, minutes = (settings[name] for name in ("steps", "epochs", "minutes"))
    num_processes = options["devices"] * options["num_nodes"]
    every = math.ceil(_EVERY / steps_per_epoch(images, num_processes))  # epochs
    every = min(every, epochs or every)
    pl.seed_everything(settings["seed"], verbose=False)
    checkpoint = ModelCheckpoint(
        output.parent,
        filename=_checkpoint(output).stem,
        every_n_epochs=every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    picture = RestoredImageGrid(filename=_picture(output).name)
    with under_lightning(""):
        return pl.Trainer(
            max_steps=-1 if steps is None else steps,
            max_epochs=-1 if epochs is None else epochs,
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


def _checkpoint(output: Path) -> Path:
    return output.with_name(f"{output.stem}-unfinished.ckpt")


def _picture(output: Path) -> Path:
    return output.with_name(f"{output.stem}-restored.png")


def _motion(estimator: "Estimator", max_shift: int, fill: Fill) -> "Motion | None":
    """Return the motion to train for, if it is not the estimator's own."""
    from eqrestore_lightning.motions._product import replace_shift

    if max_shift == 0:
        return None
    names = [field.name for field in estimator.motion.fields]
    if "shift" not in names:
        raise ValueError(
            f"Expected `max_shift` to be 0 for a network that does not find shifts, but only "
            f"({', '.join(names)}); got {max_shift}."
        )
    return replace_shift(estimator.training_motion, max_shift=max_shift, fill=fill)
