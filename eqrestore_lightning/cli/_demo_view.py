"""What `eqrestore demo` shows of one image, moved and restored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import PIL.Image
import PIL.ImageDraw
import torch
from torch import Tensor
from torchvision import models
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data import DigitsDataModule
from eqrestore_lightning.data._image_files import cut_window, read_image
from eqrestore_lightning.data._photographs import find_photographs
from eqrestore_lightning.functional import circular_shift, rotate
from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training._classifier import load_classifier
from eqrestore_lightning.transforms import RestoreTransform

Classify: TypeAlias = Callable[[Tensor], dict[str, float]]
"""From an image, uint8 of shape `(channels, height, width)`, to probabilities by class."""

_SIDE = 256  # pixels, of images for weights that take any size
_PICTURE = 256  # pixels, of the longer side


@dataclass(frozen=True)
class View:
    """One image, moved and restored, in pictures that are enlarged where they are small."""

    moved: PIL.Image.Image
    scores: PIL.Image.Image
    restored: PIL.Image.Image
    found: str
    classes: tuple[dict[str, float], dict[str, float]] | None  # of the moved and the restored image


def samples(estimator: Estimator) -> dict[str, PIL.Image.Image]:
    """Return images to choose from, by name: photographs, or digits for one channel."""
    if estimator.in_channels != 1:
        photographs = find_photographs("test").items()
        return {name: TF.to_pil_image(read_image(path)) for name, path in photographs}
    digits = DigitsDataModule().dataset("test")
    firsts = {int(label): number for number, label in reversed(list(enumerate(digits.labels)))}
    return {str(label): TF.to_pil_image(digits.images[firsts[label]]) for label in sorted(firsts)}


def size_of(estimator: Estimator) -> tuple[int, int]:
    """Return height and width of the images that are shown, pixels."""
    height, width = estimator.spatial_size or (_SIDE, _SIDE)
    return height, width


def cut(picture: PIL.Image.Image, estimator: Estimator) -> Tensor:
    """Return the central part of a picture, resized to what an estimator takes, in uint8.

    >>> from eqrestore_lightning import load_estimator
    >>> cut(PIL.Image.new("RGB", (300, 200)), load_estimator("mnist")).shape
    torch.Size([1, 32, 32])
    """
    mode = "L" if estimator.in_channels == 1 else "RGB"
    return cut_window(TF.pil_to_tensor(picture.convert(mode)), size_of(estimator))


def classify_with(source: str, shape: Sequence[int]) -> Classify:
    """Return what classifies one image of a shape: a model of torchvision, or of one's own."""
    if source in models.list_models(models):
        weights = models.get_model_weights(source).DEFAULT
        network = models.get_model(source, weights=weights)
        names, prepare = weights.meta["categories"], weights.transforms()
    else:
        network, names = load_classifier(source), None
        prepare = v2.ToDtype(torch.float32, scale=True)
    network.eval()

    @torch.no_grad()
    def classify(image: Tensor) -> dict[str, float]:
        shares = network(prepare(image).unsqueeze(0)).softmax(1)[0].tolist()
        return dict(zip(names or map(str, range(len(shares))), shares, strict=True))

    try:
        classify(torch.zeros(tuple(shape), dtype=torch.uint8))
    except RuntimeError as error:
        raise ValueError(
            f"Expected {source} to take images of shape {tuple(shape)}, but got: {error}"
        ) from error
    return classify


def view(
    image: Tensor,
    restore: RestoreTransform,
    *,
    down: int = 0,
    right: int = 0,
    angle: float = 0.0,
    classify: Classify | None = None,
) -> View:
    """Turn an image by degrees, shift it by pixels, restore it, and describe what happened.

    >>> image = torch.zeros(1, 32, 32, dtype=torch.uint8)
    >>> image[0, 8:25, 13:20] = 200
    >>> view(image, RestoreTransform("mnist"), down=5, right=-3).found.split(".")[0]
    'Found: down 5, right -3'
    """
    turned = rotate(image.unsqueeze(0), torch.tensor([float(angle)]), fill="border")
    moved = circular_shift(turned, torch.tensor([[down, right]]))[0]
    found = restore.find(moved, scores=True)
    assert found.scores is not None  # noqa: S101  # asked for
    restored = restore.undo(moved, found)
    differing = int((restored != restore(image)).any(0).sum())
    told = f"differs, at {differing:,} of {image[0].numel():,} pixels, from"
    if differing == 0:
        told = "equals, in every bit,"
    motion = sentence(restore.estimator.motion, found.motion)
    return View(
        moved=_enlarged(TF.to_pil_image(moved)),
        scores=score_picture(found.scores),
        restored=_enlarged(TF.to_pil_image(restored)),
        found=f"Found: {motion}. Margin: {float(found.margin):.1f}. "
        f"The restored image {told} what the unmoved image is restored to.",
        classes=(classify(moved), classify(restored)) if classify is not None else None,
    )


def sentence(motion: Motion, element: Element) -> str:
    """Say how one image was moved.

    >>> from eqrestore_lightning.motions import Product, Shift, Turn
    >>> element = {"angle": torch.tensor(-12.25), "shift": torch.tensor([0, -7])}
    >>> sentence(Product(Turn(), Shift()), element)
    'angle -12.2, down 0, right -7'
    """
    parts = []
    for field in motion.fields:
        values = element[field.name].reshape(-1).tolist()
        for name, value in zip(field.columns or [field.name], values, strict=True):
            parts.append(f"{name} {value if field.integer else round(value, 1)}")
    return ", ".join(parts)


def score_picture(scores: Tensor) -> PIL.Image.Image:
    """Draw scores as brightness, those of one axis as a strip, and mark the largest."""
    strip = scores.ndim == 1
    rows = scores.expand(max(1, len(scores) // 4), -1) if strip else scores.flatten(end_dim=-2)
    low, high = rows.aminmax()
    share = (rows - low).float() / float(high - low or 1)
    picture = _enlarged(TF.to_pil_image(share.unsqueeze(0).cpu()).convert("RGB"))
    row, column = divmod(int(share.argmax()), share.shape[1])
    factor = picture.width / share.shape[1]
    x, y = (column + 0.5) * factor, picture.height / 2 if strip else (row + 0.5) * factor
    draw = PIL.ImageDraw.Draw(picture)
    for radius, color in ((9, "white"), (7, "red")):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=2)
    return picture


def _enlarged(picture: PIL.Image.Image) -> PIL.Image.Image:
    factor = _PICTURE / max(picture.size)
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, PIL.Image.Resampling.NEAREST)
