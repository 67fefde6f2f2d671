"""The command `eqrestore fit`."""

import math
from pathlib import Path
from typing import Any, Literal, TypeAlias

from eqrestore_lightning.cli._device import Device

Sources: TypeAlias = Literal["auto", "file"]
Corners: TypeAlias = Literal["zeros", "border", "reflection"]

_STEPS = 2_000  # from random weights
_MINUTES = 1.5  # from weights that know other images


def run(
    data: Path,
    output: Path,
    network: str | None = None,
    start: str | None = None,
    axes: list[int] | None = None,
    image_size: int | None = None,
    grayscale: bool = False,
    sources: Sources = "auto",
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int = 64,
    max_shift: int = 0,
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
            central square; 64 by default for "upright". Required if images differ in size, but for
            "photo", which trains on random crops of large ones, read from disk as they are needed.
        grayscale: Read one channel instead of three.
        sources: Whether images of one source, such as crops of one photograph, are kept together,
            not used for both training and testing: "auto" (those of one folder, or whose file names
            differ only in the numbers at their end) or "file" (each image is its own source).
        steps: How many batches to train on; 2,000 by default, from random weights.
        minutes: Train for this long, instead of a number of steps; 1.5 by default, from weights
            that were trained before.
        batch_size: Number of images in a training step, over all processes; fewer if there are not
            enough images.
        max_shift: Train on images shifted by up to this many pixels, which then lack what has left
            them. Circular shifts need no training, so that 0 is right for them.
        corners: What enters at the corners of rotated images, both in training and when they are
            restored: "zeros" (the default), "border" (the color of their border) or "reflection".
            With zeros, "roto-translation" would learn to look for the corners of photographs.
        seed: Determines the initial weights, the order and split of images, shifts and angles.
        overwrite: Whether to replace weights that the output holds already.
        device: Where to train; "auto" is a GPU ("cuda" or "mps") if there is one, or else the CPU.
    """
    from eqrestore_lightning.cli._checks import check_at_least, check_output_file
    from eqrestore_lightning.cli._fit_data import choose_network, is_signals, look_at, open_data
    from eqrestore_lightning.cli._fit_training import fit, is_finished
    from eqrestore_lightning.weights import load_estimator

    check_output_file(output, ".safetensors")
    check_at_least(1, image_size=image_size, batch_size=batch_size, steps=steps)
    check_at_least(0, max_shift=max_shift)
    _check_length(steps, minutes)
    look = None if is_signals(data) else look_at(data, grayscale=grayscale)
    network = choose_network(network, start, look, grayscale=grayscale)
    if look is not None and look.gray and network == "border":
        grayscale = True
    source = _source(network, start, grayscale)
    if source is not None:
        load_estimator(source)  # fails before images are read
    if steps is minutes is None:
        steps, minutes = (_STEPS, None) if source is None else (None, _MINUTES)
    settings: dict[str, Any] = {
        "network": network,
        "start": start,
        "axes": axes,
        "image_size": image_size,
        "grayscale": grayscale,
        "sources": sources,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
        "max_shift": max_shift,
        "corners": corners,
        "seed": seed,
    }
    images = open_data(
        data,
        network,
        look,
        image_size=image_size,
        grayscale=grayscale,
        sources=sources,
        batch_size=batch_size,
        seed=seed,
    )
    if not overwrite and is_finished(output, settings, images.fingerprint()):
        print(  # noqa: T201
            f"Nothing to do: {output} is what this command makes. `--overwrite` trains again."
        )
        return
    fit(images, output, settings, source, device)


def _check_length(steps: int | None, minutes: float | None) -> None:
    if steps is not None and minutes is not None:
        raise ValueError("Expected either `steps` or `minutes`, but got both.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"Expected `minutes` to be finite and above 0, but got {minutes}.")


def _source(network: str, start: str | None, grayscale: bool) -> str | None:
    """Return the weights to continue from, or `None` for random ones."""
    from eqrestore_lightning.weights import bundled_weights

    if start is not None:
        return None if start == "scratch" else start
    return network if network in bundled_weights() and not grayscale else None
