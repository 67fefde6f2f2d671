"""Photographs that come with Python packages, and crops of them that look like any other's."""

import importlib.util
import io
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import IterableDataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor

# Package to its photographs. Nothing made from a test photograph is ever trained on.
TRAINING = {
    "skimage": "data/astronaut.png data/motorcycle_left.png data/motorcycle_right.png "
    "data/retina.jpg data/ihc.png data/hubble_deep_field.jpg data/camera.png data/coins.png "
    "data/cell.png data/moon.png data/brick.png data/grass.png data/gravel.png",
    "sklearn": "datasets/images/flower.jpg",
}
TEST = {
    "skimage": "data/chelsea.png data/coffee.png data/rocket.jpg",
    "sklearn": "datasets/images/china.jpg",
}
TRAINING_PANORAMAS = "city forest interior night sunrise"
TEST_PANORAMAS = "courtyard studio sunset"

FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
_SMALLEST = 40  # shorter side to which photographs are resized, pixels
_LARGEST_SCALE = 2.0
_IN_MEMORY = 150  # resized photographs held at a time
_PIXELS = 2**16  # of a batch


def packaged_photographs(names: dict[str, str], panoramas: Path, scenes: str) -> list[Path]:
    """List the photographs that installed packages and the folder of panoramas hold.

    Raises:
        FileNotFoundError: If a package or a panorama is missing; names the command that helps.
    """
    paths, missing = [], []
    for package, files in names.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            missing.append(package)
            continue
        paths += [Path(found.origin).parent / name for name in files.split()]
    if missing:
        raise FileNotFoundError(
            f"Expected the packages {missing}, whose photographs are read, to be installed: "
            f"pip install scikit-image scikit-learn"
        )
    paths += [panoramas / f"{scene}.jpg" for scene in scenes.split()]
    lost = [str(path) for path in paths if not path.is_file()]
    if lost:
        raise FileNotFoundError(f"Expected photographs, but found none at {lost}.")
    return paths


def list_photographs(folder: Path) -> list[Path]:
    """List the photographs at any depth of a folder.

    Raises:
        FileNotFoundError: If there are none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        raise FileNotFoundError(f"Expected photographs below {folder.absolute()}, but found none.")
    return paths


def through_jpeg(image: Image.Image, quality: int, subsampling: int = 2) -> Image.Image:
    """Return what is left of an image after JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer).convert("RGB")


class Pool:
    """Photographs of random sizes and histories, of which some are in memory and renewed in turns.

    Each is read from disk, perhaps saved as JPEG, perhaps resized, perhaps darkened, perhaps saved
    as JPEG (again): night and shadow leave little but JPEG's own steps.

    Args:
        paths: The photographs.
        generator: Source of randomness.
    """

    def __init__(self, paths: Sequence[Path], generator: random.Random) -> None:
        self.paths = list(paths)
        self.random = generator
        self.images = [self._draw(index % len(self.paths)) for index in range(_IN_MEMORY)]

    def renew(self) -> None:
        """Replace one photograph."""
        self.images[self.random.randrange(len(self.images))] = self._draw()

    def crops(self, count: int, height: int, width: int) -> Tensor:
        """Cut windows at random: uint8 of shape `(count, 3, height, width)`."""
        fitting = [i for i in self.images if i.shape[1] >= height and i.shape[2] >= width]
        crops = []
        for _ in range(count):
            if fitting:
                image = self.random.choice(fitting)
            else:
                image = _enlarge(self.random.choice(self.images), height, width)
            down = self.random.randint(0, image.shape[1] - height)
            right = self.random.randint(0, image.shape[2] - width)
            crops.append(image[:, down : down + height, right : right + width])
        return torch.stack(crops)

    def _draw(self, index: int | None = None) -> Tensor:
        draw = self.random
        path = draw.choice(self.paths) if index is None else self.paths[index]
        with Image.open(path) as file:
            image = file.convert("RGB")
        if draw.random() < 0.3:
            image = through_jpeg(image, draw.randint(40, 95), draw.choice((0, 2)))
        if draw.random() < 0.8:
            least = max(0.12, _SMALLEST / min(image.size))
            scale = math.exp(draw.uniform(math.log(least), math.log(_LARGEST_SCALE)))
            aspect = math.exp(draw.gauss(0, 0.1))
            width, height = (
                max(_SMALLEST, int(side * scale * factor))
                for side, factor in zip(image.size, (aspect, 1 / aspect), strict=True)
            )
            image = image.resize((width, height), draw.choice(FILTERS))
        if draw.random() < 0.25:
            image = ImageEnhance.Brightness(image).enhance(draw.uniform(0.08, 0.7))
        if draw.random() < 0.5:
            image = through_jpeg(image, draw.randint(40, 97), draw.choice((0, 2)))
        pixels: Tensor = pil_to_tensor(image)
        return pixels


class Batches(IterableDataset[Tensor]):
    """Batches of images of one size each, about 65,000 pixels in all, floating, from 0 to 255.

    Two fifths of them are small images as they are, a fifth small images cropped or enlarged, the
    rest crops of photographs of 24 to 180 pixels; without small images all are of the last kind.

    Args:
        small: Images of one size that fit into memory, uint8; or nothing.
        paths: Photographs.
        seed: Decides everything random; each process needs its own.
    """

    def __init__(self, small: Tensor | None, paths: Sequence[Path], seed: int) -> None:
        super().__init__()
        self.small = small
        self.random = random.Random(seed)  # noqa: S311
        self.generator = torch.Generator().manual_seed(seed)
        self.pool = Pool(paths, self.random)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw batches without end."""
        while True:
            self.pool.renew()
            kind = self.random.choices(("whole", "part", "photograph"), (0.4, 0.2, 0.4))[0]
            if self.small is None or kind == "photograph":
                images = self._photographs()
            else:
                images = self._take(self.small) if kind == "whole" else self._part(self.small)
            yield augmented(images, self.random, self.generator)

    def _photographs(self) -> Tensor:
        height = int(math.exp(self.random.uniform(math.log(24), math.log(160))))
        width = int(min(180, max(24, height * math.exp(self.random.gauss(0, 0.35)))))
        return self.pool.crops(max(4, _PIXELS // (height * width)), height, width)

    def _take(self, small: Tensor, pixels: int | None = None) -> Tensor:
        count = _PIXELS // (pixels or math.prod(small.shape[2:]))
        return small[torch.randint(len(small), (count,), generator=self.generator)]

    def _part(self, small: Tensor) -> Tensor:
        draw, size = self.random, min(small.shape[2:])
        if draw.random() < 0.7:
            least = min(20, size)
            height, width = draw.randint(least, size), draw.randint(least, size)
            if draw.random() < 0.5:
                height = width = 3 * size // 4
            images = self._take(small, height * width)
        else:
            whole = int(size * draw.uniform(1.1, 2.5))
            images = _resized(self._take(small, whole**2), (whole, whole), draw)
            height, width = draw.randint(24, whole), draw.randint(24, whole)
        down = draw.randint(0, images.shape[2] - height)
        right = draw.randint(0, images.shape[3] - width)
        return images[..., down : down + height, right : right + width]


def augmented(images: Tensor, draw: random.Random, generator: torch.Generator) -> Tensor:
    """Mirror, blur, change contrast and brightness, add noise; each on some batches.

    Args:
        images: uint8 of shape `(batch, 3, height, width)`.
        draw: Decides for the batch.
        generator: Decides for each image.

    Returns:
        Whole numbers from 0 to 255, float32.
    """
    x = images.float()

    def uniform() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator)

    for axis, share in ((3, 0.5), (2, 0.3)):
        if draw.random() < share:
            x = x.flip(axis)
    if draw.random() < 0.25:
        weight = draw.uniform(0.05, 0.3) * uniform()
        for axis in (3, 2):
            ends = [1, 1, 0, 0] if axis == 3 else [0, 0, 1, 1]
            padded = F.pad(x, ends, mode="replicate")
            sides = padded.narrow(axis, 0, x.shape[axis]) + padded.narrow(axis, 2, x.shape[axis])
            x = x * (1 - 2 * weight) + weight * sides
    if draw.random() < 0.5:
        mean = x.mean((1, 2, 3), keepdim=True)
        x = (x - mean) * torch.exp(uniform() * 1.4 - 1) + mean + (uniform() - 0.5) * 80
    if draw.random() < 0.2:
        x = x + torch.randn(x.shape, generator=generator) * uniform() ** 2 * 8
    if draw.random() < 0.1:
        channels = [1, 1, 1] if draw.random() < 0.5 else draw.sample(range(3), 3)
        x = x[:, channels]
    return x.round().clamp(0, 255)


def test_crops(paths: Sequence[Path], height: int, width: int, count: int) -> Tensor:
    """Cut windows at random from photographs in turns: the same each time.

    Returns:
        uint8 of shape `(count, 3, height, width)`, from those photographs that are large enough.
    """
    images = []
    for path in paths:
        with Image.open(path) as file:
            images.append(file.convert("RGB"))
    return crops_of(images, height, width, count, seed=height)


def crops_of(
    images: Sequence[Image.Image], height: int, width: int, count: int, seed: int
) -> Tensor:
    """Cut windows at random from images in turns; those that are too small are left out."""
    draw = random.Random(seed)  # noqa: S311
    images = [i for i in images if i.size[0] >= width and i.size[1] >= height]
    crops = []
    for index in range(count):
        image = images[index % len(images)]
        down = draw.randint(0, image.size[1] - height)
        right = draw.randint(0, image.size[0] - width)
        crops.append(pil_to_tensor(image.crop((right, down, right + width, down + height))))
    return torch.stack(crops)


def small_crops(images: Tensor, size: int, seed: int = 1) -> Tensor:
    """Cut one window out of each small image, at random: the same each time."""
    draw = random.Random(seed)  # noqa: S311
    spare = images.shape[2] - size
    corners = [(draw.randint(0, spare), draw.randint(0, spare)) for _ in range(len(images))]
    return torch.stack(
        [x[:, i : i + size, j : j + size] for x, (i, j) in zip(images, corners, strict=True)]
    )


def _enlarge(image: Tensor, height: int, width: int) -> Tensor:
    size = (max(height, image.shape[1]), max(width, image.shape[2]))
    enlarged = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)
    return enlarged[0].round().byte()


def _resized(images: Tensor, size: tuple[int, int], draw: random.Random) -> Tensor:
    mode = draw.choice(("bilinear", "bicubic"))
    resized = F.interpolate(images.float(), size=size, mode=mode, align_corners=False)
    return resized.round().clamp(0, 255).byte()
