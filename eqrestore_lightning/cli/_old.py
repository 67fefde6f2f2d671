"""The commands `eqrestore` and `lightning`."""

import csv
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from eqrestore_lightning.transforms import RestoreTransform


def eqrestore(args: Sequence[str] | None = None) -> None:
    """Run one of the commands below; user errors end with one line and exit status 2."""
    from eqrestore_lightning._cli_fit import fit
    from eqrestore_lightning._cli_inspect import audit, inspect
    from jsonargparse import auto_cli

    commands: dict[str, Any] = {
        "fit": fit,
        "restore": restore,
        "evaluate": evaluate,
        "inspect": inspect,
        "audit": audit,
    }
    try:
        auto_cli(commands, args=list(sys.argv[1:] if args is None else args), prog="eqrestore")
    except (FileExistsError, FileNotFoundError, ImportError, TypeError, ValueError) as error:
        print(f"eqrestore: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def lightning(args: Sequence[str] | None = None) -> None:
    """Run `lightning run FILE …` as `fabric run` does; hand other calls to lightning-sdk.

    On one machine a free port is chosen unless `--main-port` names one, so that several runs do not
    meet on the same.

    Args:
        args: What follows `lightning` on the command line.
    """
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] == ["run"] and _names_a_file(args[1:]):
        from lightning.fabric.cli import _main as fabric

        if not any(arg.startswith(("--num-nodes", "--num_nodes")) for arg in args):
            args.insert(1, f"--main-port={_free_port()}")  # a later one counts
        fabric(args=args, prog_name="lightning")
        return
    other = _lightning_sdk()
    if other is not None:
        sys.argv = ["lightning", *args]
        other()
        return
    wants_help = not args or args[0] in ("-h", "--help")
    print(
        "Usage: lightning run FILE [--devices N] [--accelerator A] … [ARGUMENTS OF FILE]\n"
        "Runs FILE as `fabric run` does. Other commands are lightning-sdk's, "
        "which is not installed: pip install lightning-sdk",
        file=sys.stdout if wants_help else sys.stderr,
    )
    sys.exit(0 if wants_help else 2)


def restore(
    weights: str,
    images: Path,
    output: Path,
    min_margin: float = 0.0,
    batch_size: int = 256,
) -> None:
    """Restore the images of a folder into another one, with a table of what was found.

    Every image is written as PNG under its relative path; shifts.csv tells the shift found (pixels,
    down and right), the angle (degrees, counter-clockwise), or both, and the margin. Nothing is
    written unless every image can be read and fits.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        images: Folder of images of the size the weights were made for.
        output: Folder to write to; it must not exist yet, or be empty.
        min_margin: Leave images as they are whose margin is below it; their shift reads 0.
        batch_size: Images restored at a time.
    """
    import torch
    from torchvision.transforms.v2 import functional as TF
    from tqdm import tqdm

    from eqrestore_lightning.data import find_images, read_image
    from eqrestore_lightning.transforms import RestoreTransform

    device = "cuda" if torch.cuda.is_available() else "cpu"
    transform = RestoreTransform(weights, min_margin=min_margin).to(device)
    if not images.is_dir():
        raise FileNotFoundError(f"Expected a folder of images, but found none at {images}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"Expected `output` to be a new or empty folder, but got {output}.")
    files = find_images(images)
    if not files:
        raise FileNotFoundError(f"Expected images below {images}, but found none.")
    targets = [output / path.relative_to(images).with_suffix(".png") for path in files]
    _check_distinct(files, targets)
    grayscale = transform.estimator.in_channels == 1

    def read(path: Path) -> "Tensor":
        image = read_image(path, grayscale=grayscale)
        _check_size(path, image, transform)
        return image

    for path in tqdm(files, desc="Checking"):
        read(path)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for start in tqdm(range(0, len(files), batch_size), desc="Restoring"):
        chosen = slice(start, start + batch_size)
        batch = torch.stack([read(path) for path in files[chosen]]).to(device)
        shifts, margins = transform.estimate(batch), transform.margin(batch)
        restored = transform.estimator.undo(batch, shifts).cpu()
        for number, target in enumerate(targets[chosen]):
            target.parent.mkdir(parents=True, exist_ok=True)
            TF.to_pil_image(restored[number]).save(target)
            found = [f"{entry:.15g}" for entry in shifts[number].tolist()]
            rows.append([target.relative_to(output), *found, f"{margins[number]:.4f}"])
    with (output / "shifts.csv").open("w", newline="", encoding="utf-8") as file:
        names = transform.estimator.element_names
        csv.writer(file).writerows([["file", *names, "margin"], *rows])
    print(f"Restored {len(files)} images into {output}.")  # noqa: T201


def evaluate(
    classifier: str,
    images: Path,
    restorer: str,
    max_shift: int | None = None,
    kind: Literal["circular", "zeros", "crop", "rotation"] = "circular",
    min_margin: float = 0.0,
    image_size: int | None = None,
    grayscale: bool = False,
    batch_size: int = 256,
    seed: int = 0,
) -> None:
    """Measure a classifier under shifts or rotations, with and without a restorer in front.

    Args:
        classifier: Checkpoint of a ClassifierModule, or package.module:name of a network or of a
            function that gives one; it takes images from 0 to 1 and gives logits.
        images: Folder with a folder for each class; all images are used, or those below `test`
            where there is such a folder.
        restorer: Name of bundled weights, or a .safetensors or .ckpt file.
        max_shift: Largest shift, pixels, 8 by default; all smaller ones are measured too. For
            rotation, the largest circular shift of turned images, 0 by default.
        kind: What enters where a shifted image leaves: its other side, zeros, or, for crop, what
            lies there: classifier and restorer see a moving window, smaller by max_shift on each
            side. For rotation, images are turned instead, by 0 to 345 degrees in steps of 15 and by
            random angles.
        min_margin: Leave images as they are whose margin is below it.
        image_size: Resize and cut images to squares of this many pixels.
        grayscale: Read one channel instead of three.
        batch_size: Images classified at a time.
        seed: Decides shifts and angles.
    """
    import torch

    from eqrestore_lightning.data import ImageFolderDataModule
    from eqrestore_lightning.training import (
        evaluate_rotations,
        evaluate_shifts,
        load_classifier,
        rotation_table,
        shift_table,
    )
    from eqrestore_lightning.transforms import RestoreTransform

    data = ImageFolderDataModule(images, image_size=image_size, grayscale=grayscale)
    if max_shift is None:
        max_shift = 0 if kind == "rotation" else 8
    if max_shift < 0:
        raise ValueError(f"Expected `max_shift` to be at least 0, but got {max_shift}.")
    dataset = data.read(images / "test" if (images / "test").is_dir() else images)
    if not data.classes:
        raise ValueError(f"Expected a folder for each class in {images}, but found only images.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = load_classifier(classifier).to(device)
    restore = RestoreTransform(restorer, min_margin=min_margin).to(device)
    batches, restorers = dataset.loader(batch_size), {"restored": restore}
    if kind == "rotation":
        turned = evaluate_rotations(
            network, batches, restorers=restorers, max_shift=max_shift, seed=seed
        )
        told = f"turned, then shifted circularly by up to {max_shift} pixels\n\n"
        table = (told if max_shift else "") + rotation_table(turned)
    else:
        table = shift_table(
            evaluate_shifts(
                network,
                batches,
                restorers=restorers,
                max_shifts=range(max_shift + 1),
                kind=kind,
                seed=seed,
            )
        )
    print(f"{len(dataset)} images of {len(data.classes)} classes\n\n{table}")  # noqa: T201


def _names_a_file(args: Sequence[str]) -> bool:
    return any(arg.endswith(".py") or Path(arg).is_file() for arg in args)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _lightning_sdk() -> Callable[[], Any] | None:
    try:
        scripts = distribution("lightning-sdk").entry_points.select(
            group="console_scripts", name="lightning"
        )
    except PackageNotFoundError:
        return None
    found: Callable[[], Any] | None = next((script.load() for script in scripts), None)
    return found


def _check_distinct(files: Sequence[Path], targets: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path, target in zip(files, targets, strict=True):
        if target in seen:
            raise ValueError(
                f"Expected images with different names, but {seen[target]} and {path} "
                f"would both become {target}."
            )
        seen[target] = path


def _check_size(path: Path, image: "Tensor", transform: "RestoreTransform") -> None:
    expected = transform.estimator.spatial_size
    if tuple(image.shape[1:]) != expected:
        raise ValueError(
            f"Expected images of {' x '.join(map(str, expected))} pixels, which the weights were "
            f"made for, but got {' x '.join(map(str, image.shape[1:]))} in {path}."
        )
