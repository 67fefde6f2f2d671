"""What `eqrestore demo` starts from: images to choose from, and classifiers."""

from collections.abc import Callable, Sequence
from importlib import util
from typing import TypeAlias

import PIL.Image
import torch
from torch import Tensor
from torchvision import models
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data import DigitsDataModule
from eqrestore_lightning.data._image_files import cut_window, read_image
from eqrestore_lightning.data._photographs import find_photographs
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training import load_classifier

Classify: TypeAlias = Callable[[Tensor], dict[str, float]]
"""From an image, uint8 of shape `(channels, height, width)`, to probabilities by class."""

_SIDE = 256  # pixels, of images for weights that take any size


def samples(estimator: Estimator) -> dict[str, PIL.Image.Image]:
    """Return images to choose from, by name: photographs, or digits for one channel.

    Args:
        estimator: For which they are; those of packages that are not installed are left out.
    """
    if estimator.in_channels == 1:
        if util.find_spec("sklearn") is None:
            return {}
        digits = DigitsDataModule().dataset("test")
        firsts = {int(label): number for number, label in reversed(list(enumerate(digits.labels)))}
        return {
            str(label): TF.to_pil_image(digits.images[firsts[label]]) for label in sorted(firsts)
        }
    return {
        name: TF.to_pil_image(read_image(path))
        for name, path in find_photographs("test", missing_ok=True).items()
    }


def size_of(estimator: Estimator) -> tuple[int, int]:
    """Return height and width of the images that are shown, pixels."""
    height, width = estimator.spatial_size or (_SIDE, _SIDE)
    return height, width


def cut(picture: PIL.Image.Image, estimator: Estimator) -> Tensor:
    """Return the central part of a picture, resized to what an estimator takes.

    Args:
        picture: Of any size and mode.
        estimator: Of images of one size, or of any size, which then get 256 × 256 pixels.

    Returns:
        uint8 of shape `(in_channels, height, width)`.

    >>> from eqrestore_lightning import load_estimator
    >>> cut(PIL.Image.new("RGB", (300, 200)), load_estimator("mnist")).shape
    torch.Size([1, 32, 32])
    """
    mode = "L" if estimator.in_channels == 1 else "RGB"
    return cut_window(TF.pil_to_tensor(picture.convert(mode)), size_of(estimator))


def classify_with(source: str, shape: Sequence[int]) -> Classify:
    """Return a function that classifies one image.

    Args:
        source: Name of a torchvision model, whose weights are downloaded unless they are there; or
            what `load_classifier` takes, a network for images of 0 to 1.
        shape: Of the images to come, `(channels, height, width)`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        OSError: If weights cannot be downloaded.
        ValueError: If `source` is none of these, or takes other images.
    """
    if source in models.list_models(models):
        weights = models.get_model_weights(source).DEFAULT
        network = models.get_model(source, weights=weights)
        names, prepare = weights.meta["categories"], weights.transforms()
    else:
        network, names, prepare = (
            load_classifier(source),
            None,
            v2.ToDtype(torch.float32, scale=True),
        )
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
