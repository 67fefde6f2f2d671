"""The command `eqrestore fit`."""

import copy
import json
import logging
import math
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from eqrestore_lightning.cli._device import Device, choose_device
from eqrestore_lightning.files import only_process, remove_parts

if TYPE_CHECKING:
    import lightning as pl

    from eqrestore_lightning.data import DataModule
    from eqrestore_lightning.motions import Motion
    from eqrestore_lightning.nn import Estimator
    from eqrestore_lightning.training import RestorerModule

Fill: TypeAlias = Literal["circular", "zeros"]
Corners: TypeAlias = Literal["zeros", "border", "reflection"]
Sources: TypeAlias = Literal["auto", "folder", "prefix", "file"]

_NOISE = (
    ".*LeafSpec",
    ".*does not have many workers",
    "Checkpoint directory",
)  # Lightning's warnings
DEFAULTS = {"color": "photo", "grayscale": "seam", "signals": "seam"}
"""The networks that are trained unless one is named."""

_EPOCHS = 20  # from random weights
_MINUTES = 1.5  # from weights that know other images

CROPPED: dict[str, tuple[int, ...]] = {"photo": (32, 64, 96)}
"""Presets for images of any size, and the sizes of the random crops they are trained on."""

RESIZED: dict[str, int] = {"photo-upright": 64, "photo-turn": 64}
"""Presets that need to see whole images, and the size to which these are reduced."""


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
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int = 64,
    max_shift: int = 0,
    fill: Fill = "zeros",
    corners: Corners | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Train a restorer on your own images or signals.

    Args:
        data: Folder of images, with or without class folders, or with folders train, val and test;
            or a file of signals: .npy of shape (n, channels, length) or (n, length), or .csv with
            one signal per row.
        output: File to write the weights to, ending in .safetensors. Next to it is written, under
            its name, a picture (-restored.png) that shows some images as they are, moved, and
            restored; and, while training, a checkpoint after each epoch (-unfinished.ckpt). If
            training is interrupted, the same command goes on from there; until then the checkpoint
            can be used like the weights.
        network: Name of a network. "photo", the default, is for photographs of any size, "seam",
            the default for grayscale and signals, for images of one size that fill the frame,
            "border" for images in a blank border, "centered" for objects placed by their center of
            mass, "paper" is the network of the paper; all of them undo shifts. "photo-upright"
            turns photographs upright by quarter turns, "photo-turn" by any angle; "rotation"
            undoes rotations by any angle, "roto-translation" rotations and shifts, of small images
            of one size. Signals need "seam", "border", "centered" or "paper".
        start: Weights to continue from: a name of bundled weights, or a .safetensors or .ckpt file,
            whose network is then trained, whatever "network" is; or "scratch" for random weights.
            By default, the bundled weights that are named like the network, if there are any.
        axes: Axes along which images may have been shifted: -1 is the width (or the time of
            signals), -2 the height; all by default. "[-1]" is for panoramas.
        image_size: Resize images so that their shorter side has this many pixels, and keep the
            central square; 64 by default for "photo-upright" and "photo-turn". Either this or
            crop_sizes is required if images differ in size.
        crop_sizes: Train on random square crops of these sizes, in pixels, read from disk as they
            are needed, so that there may be any number of images; "[64]" for instance. Most
            networks take one size.
        grayscale: Read one channel instead of three.
        sources: How to recognize images of one source, such as crops of one photograph, which must
            not be used for both training and testing: "folder" (images of one folder), "prefix"
            (file names that differ only in the numbers at their end), "file" (each image is its own
            source) or "auto" (folder or prefix, whichever fits).
        epochs: How many times training goes through the images (for crops, through 200 batches); 20
            by default, from random weights.
        minutes: Train for this long instead of a number of epochs; 1.5 by default, from weights
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
        device: Where to train; "auto" is a GPU ("cuda" or "mps") if there is one, or else the CPU.
    """
    kind = "grayscale" if grayscale else "color"
    network = network or DEFAULTS["signals" if _is_signals(data) else kind]
    if image_size is None and crop_sizes is None:
        image_size = RESIZED.get(network)
    arguments = json.dumps(locals(), default=str)
    from eqrestore_lightning.cli._fit_network import open_estimator
    from eqrestore_lightning.cli._fit_report import keep_better, report
    from eqrestore_lightning.training import RestorerModule
    from eqrestore_lightning.weights import save_estimator

    _check_arguments(output, network, image_size, crop_sizes)
    _check_length(epochs, minutes)
    source = _source(network, start, grayscale)
    trainer = _trainer(output, epochs, minutes, source, seed, device)
    images = _open_data(
        data,
        image_size=image_size,
        crop_sizes=crop_sizes or (None if image_size else _crop_sizes(network, data)),
        grayscale=grayscale,
        sources=sources,
        batch_size=batch_size,
        seed=seed,
    )
    _limit_batch_size(images, trainer.world_size)
    estimator = open_estimator(network, source, images, axes, corners)
    motion = _motion(estimator, max_shift, fill)
    rate = 3e-3 if source is None else 1e-3
    module = RestorerModule(estimator, learning_rate=rate, motion=motion, seed=seed)
    before = copy.deepcopy(estimator.state_dict())
    applied = motion or estimator.motion
    options: dict[str, Any] = {"seed": seed, "device": device}
    notes = {"arguments": arguments, "data": images.fingerprint()}
    output.parent.mkdir(parents=True, exist_ok=True)
    with only_process(output) if trainer.is_global_zero else nullcontext():
        _train(trainer, module, images, output, notes)
        if source is not None:
            keep_better(estimator, before, images, applied, source, **options)
        if trainer.is_global_zero:
            save_estimator(estimator, output, metadata=notes)
            _print_files(output, estimator.num_spatial_dims)
        conclusion = report(estimator, images, applied, **options)
        if trainer.is_global_zero:
            print(conclusion)  # noqa: T201
            _checkpoint(output).unlink(missing_ok=True)


def _train(
    trainer: "pl.Trainer",
    module: "RestorerModule",
    images: "DataModule",
    output: Path,
    notes: Mapping[str, str],
) -> None:
    """Train, from where an interrupted run of the same command has stopped."""
    from eqrestore_lightning.cli._errors import as_user_errors
    from eqrestore_lightning.cli._fit_report import describe_data
    from eqrestore_lightning.cli._fit_resume import RunNotes, interrupted_run

    settings = {**json.loads(notes["arguments"]), "images": notes["data"]}
    settings = {
        name: settings[name] for name in settings if name not in ("data", "output", "device")
    }
    checkpoint = interrupted_run(_checkpoint(output), settings)
    trainer.callbacks.append(RunNotes(settings))  # type: ignore[attr-defined]  # set by a mixin
    if trainer.is_global_zero:
        remove_parts(output, _checkpoint(output), _picture(output))
        describe_data(images)
        if checkpoint:
            print(f"Going on from {checkpoint}.")  # noqa: T201
    with as_user_errors(lambda: _what_is_left(output)), warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, datamodule=images, ckpt_path=checkpoint, weights_only=True)
    module.estimator.cpu()


def _what_is_left(output: Path) -> str:
    if _checkpoint(output).is_file():
        return f"the same command goes on from {_checkpoint(output)}"
    return "before the first epoch ended; the same command begins anew"


def _print_files(output: Path, num_spatial_dims: int) -> None:
    files = [output, *([_picture(output)] if num_spatial_dims == 2 else [])]
    print(f"Wrote {' and '.join(map(str, files))}.")  # noqa: T201


def _check_arguments(
    output: Path, network: str, image_size: int | None, crop_sizes: list[int] | None
) -> None:
    from eqrestore_lightning.nn import list_presets

    if output.suffix != ".safetensors":
        raise ValueError(f"Expected `output` to end in .safetensors, but got {output}.")
    if crop_sizes is not None and not crop_sizes:
        raise ValueError("Expected `crop_sizes` to name at least one size, but got none.")
    if network not in list_presets():
        raise ValueError(
            f"Expected `network` to be one of {', '.join(list_presets())}, but got {network!r}."
        )
    if image_size is not None and crop_sizes is not None:
        raise ValueError(
            f"Expected either `image_size` or `crop_sizes`, but got both: {image_size} and "
            f"{crop_sizes}."
        )


def _check_length(epochs: int | None, minutes: float | None) -> None:
    if epochs is not None and epochs < 0:
        raise ValueError(f"Expected `epochs` to be at least 0, but got {epochs}.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"Expected `minutes` to be finite and above 0, but got {minutes}.")


def _source(network: str, start: str | None, grayscale: bool) -> str | None:
    """Return the weights to continue from, or `None` for random ones."""
    from eqrestore_lightning.weights import bundled_weights

    if start is not None:
        return None if start == "scratch" else start
    return network if network in bundled_weights() and not grayscale else None


def _trainer(
    output: Path,
    epochs: int | None,
    minutes: float | None,
    source: str | None,
    seed: int,
    device: Device,
) -> "pl.Trainer":
    import lightning as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from eqrestore_lightning.training import (
        AtomicCheckpointIO,
        RestoredImageGrid,
        trainer_options,
    )

    options = trainer_options(device=device if device == "auto" else choose_device(device))
    if epochs is None and minutes is None:
        epochs, minutes = (_EPOCHS, None) if source is None else (None, _MINUTES)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # the report is enough
    pl.seed_everything(seed, verbose=False)
    checkpoint = ModelCheckpoint(
        output.parent, filename=_checkpoint(output).stem, enable_version_counter=False
    )
    return pl.Trainer(
        max_epochs=-1 if epochs is None else epochs,
        max_time=None if minutes is None else timedelta(minutes=minutes),
        default_root_dir=output.parent,
        logger=False,
        enable_model_summary=False,
        callbacks=[checkpoint, RestoredImageGrid(filename=_picture(output).name)],
        plugins=[AtomicCheckpointIO()],
        **options,
    )


def _checkpoint(output: Path) -> Path:
    return output.with_name(f"{output.stem}-unfinished.ckpt")


def _picture(output: Path) -> Path:
    return output.with_name(f"{output.stem}-restored.png")


def _open_data(
    path: Path,
    *,
    image_size: int | None,
    crop_sizes: list[int] | None,
    grayscale: bool,
    sources: Sources,
    **options: Any,
) -> "DataModule":
    """Build the data module for a folder of images, or for a file of signals."""
    from eqrestore_lightning.data import (
        ImageFolderDataModule,
        PhotoCropDataModule,
        SignalDataModule,
    )

    if _is_signals(path):
        data: DataModule = SignalDataModule(path, **options)
    elif crop_sizes:
        data = PhotoCropDataModule(
            path, crop_sizes=crop_sizes, grayscale=grayscale, sources=sources, **options
        )
    else:
        data = ImageFolderDataModule(
            path, image_size=image_size, grayscale=grayscale, sources=sources, **options
        )
    data.setup("fit")
    return data


def _is_signals(path: Path) -> bool:
    return path.is_file() or path.suffix.lower() in (".npy", ".csv")


def _crop_sizes(network: str, folder: Path) -> list[int] | None:
    """Return the crops that a network for any size is trained on: those that most images hold."""
    if network not in CROPPED or not folder.is_dir():
        return None
    from eqrestore_lightning.data import find_images, read_image_size

    sizes = [read_image_size(path) for path in find_images(folder)]
    if len(set(sizes)) == 1 and max(sizes[0]) <= max(CROPPED[network]):
        return None  # small images of one size are crops already
    shorter = sorted(min(size) for size in sizes)
    usual = shorter[len(shorter) // 10] if shorter else 0
    return [size for size in CROPPED[network] if size <= usual] or [usual]


def _limit_batch_size(data: "DataModule", num_processes: int) -> None:
    """Let a batch hold no more images than there are for training."""
    from eqrestore_lightning.data import InMemoryDataModule

    if isinstance(data, InMemoryDataModule):
        largest = len(data.dataset("train")) // num_processes * num_processes
        data.batch_size = min(data.batch_size, largest)


def _motion(estimator: "Estimator", max_shift: int, fill: Fill) -> "Motion | None":
    """Return the motion to train for, if it is not the estimator's own."""
    from eqrestore_lightning.motions import replace_shift

    if max_shift == 0:
        return None
    names = [field.name for field in estimator.motion.fields]
    if "shift" not in names:
        raise ValueError(
            f"Expected `max_shift` to be 0 for a network that does not find shifts, but only "
            f"({', '.join(names)}); got {max_shift}."
        )
    return replace_shift(estimator.training_motion, max_shift=max_shift, fill=fill)
