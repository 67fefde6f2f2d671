"""The commands `eqrestore inspect` and `eqrestore audit`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from eqrestore_lightning.functional import Translate


def inspect(images: Path, image_size: int | None = None, grayscale: bool = False) -> None:
    """Tell which images of a folder have no place of their own, so that no restorer can find it.

    These are images that are circular shifts of others, that repeat themselves, or that have one
    colour. Exact duplicates are named too; they do no harm.

    Args:
        images: Folder of images, at any depth.
        image_size: Resize and cut images to squares of this many pixels; needed if sizes differ.
        grayscale: Read one channel instead of three.
    """
    from eqrestore_lightning.data import ImageFolderDataModule, find_images
    from eqrestore_lightning.functional import find_translates

    data = ImageFolderDataModule(images, image_size=image_size, grayscale=grayscale)
    pixels = data.read(images).images
    names = [str(path.relative_to(images)) for path in find_images(images)]
    counts: Counter[str] = Counter()
    for found in find_translates(pixels):
        kind = _kind(found, pixels)
        counts[kind] += 1
        print(_sentence(kind, found, names))  # noqa: T201
    told = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS)
    size = " x ".join(map(str, pixels.shape[2:]))
    harmful = sum(counts.values()) - counts["duplicate"]
    print(  # noqa: T201
        f"{len(pixels)} images of {size} pixels: {told}.\n"
        + (
            "No restorer can tell where these belong: leave them out, or cut them otherwise."
            if harmful
            else "Each has one place: some estimator is right on all of them (Theorem 4.5)."
        )
    )


def audit(
    model: str,
    picture: Path | None = None,
    image_size: int = 224,
    channels: int = 3,
    seed: int = 0,
) -> None:
    """Tell where a network loses translation equivariance, by what, and how much of it.

    Args:
        model: Name of a torchvision model (its weights are drawn at random), or what `evaluate`
            takes: a checkpoint of a ClassifierModule, or package.module:name.
        picture: File to draw the table into, ending in .png.
        image_size: Height and width of the noise that it is tried on, pixels.
        channels: Channels of the noise.
        seed: Decides noise and weights.
    """
    import torch
    from torchvision.models import get_model, list_models

    from eqrestore_lightning.testing import audit, audit_table, draw_audit
    from eqrestore_lightning.training import load_classifier

    torch.manual_seed(seed)
    known = model in list_models()
    network = get_model(model, weights=None) if known else load_classifier(model)
    x = torch.rand(1, channels, image_size, image_size)
    try:
        layers = audit(network, x)
    except RuntimeError as error:
        raise ValueError(
            f"Expected {model} to take images of shape {tuple(x.shape)}, but got: {error}"
        ) from error
    print(audit_table(layers))  # noqa: T201
    lost = next((layer for layer in layers if layer.reason), None)
    print(  # noqa: T201
        f"\nEquivariance is lost first at {lost.name} ({lost.kind}), by {lost.reason}: an error of "
        f"{lost.error:.2g} for a shift by one pixel."
        if lost
        else "\nNo layer loses translation equivariance."
    )
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_audit(picture, layers, title=f"{model}: layers in red lose equivariance")
        print(f"Wrote {picture}.")  # noqa: T201


_KINDS = ("shifted", "periodic", "constant", "duplicate")


def _kind(found: "Translate", pixels: "Tensor") -> str:
    if found.first != found.second:
        return "shifted" if any(found.shift) else "duplicate"
    flat = pixels[found.first].flatten(1)
    return "constant" if bool((flat == flat[:, :1]).all()) else "periodic"


def _sentence(kind: str, found: "Translate", names: list[str]) -> str:
    down, right = found.shift
    motion = f"shifted by {down} down and {right} right"
    return {
        "shifted": f"{names[found.second]} is {names[found.first]} {motion}.",
        "periodic": f"{names[found.second]} is equal to itself {motion}.",
        "constant": f"{names[found.second]} has one colour.",
        "duplicate": f"{names[found.second]} is equal to {names[found.first]}.",
    }[kind]
