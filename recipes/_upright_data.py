"""Upright images: CIFAR-10, crops of photographs that come with packages, views of panoramas."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset
from torchvision.transforms.v2.functional import pil_to_tensor

# Of the photographs that packages ship, those that have an up; no test photograph is trained on.
UPRIGHT_TRAINING = {
    "skimage": "data/astronaut.png data/motorcycle_left.png data/motorcycle_right.png "
    "data/camera.png",
    "sklearn": "datasets/images/flower.jpg",
}
_BATCH = 128
_STORED = 88  # pixels on a side of the crops and views that are held in memory
_SIZES = (32, 40, 48, 64)
_KINDS = {"small": 0.7, "enlarged": 0.1, "large": 0.2}


class UprightBatches(IterableDataset[Tensor]):
    """Batches of upright square images, floating, from 0 to 255, mirrored one by one at random.

    Seven of ten are small images as they are or slightly cropped, the others small images
    enlarged, and crops of photographs and views of panoramas, of 32 to 64 pixels. Without small
    images all are of the last kind.

    Args:
        small: Images of one size, uint8; or nothing.
        large: Square pictures of one size, uint8, see `pictures`.
        seed: Decides everything random; each process needs its own.
    """

    def __init__(self, small: Tensor | None, large: Tensor, seed: int) -> None:
        super().__init__()
        self.small = small
        self.large = large
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw batches without end."""
        while True:
            chosen = int(
                torch.multinomial(torch.tensor(list(_KINDS.values())), 1, generator=self.generator)
            )
            kind = list(_KINDS)[chosen]
            if self.small is None or kind == "large":
                x = self._part(self.large, 0.6, _SIZES[self._below(len(_SIZES))])
            elif kind == "enlarged":
                x = self._part(self.small, 0.75, _SIZES[self._below(len(_SIZES))])
            else:
                x = self._part(self.small, 0.8, self.small.shape[3])
            yield self._varied(x)

    def _part(self, images: Tensor, least: float, size: int) -> Tensor:
        """Take some images, cut one window out of all of them, and resize it."""
        batch = max(16, _BATCH * 32**2 // size**2)
        x = images[torch.randint(len(images), (batch,), generator=self.generator)]
        whole = images.shape[3]
        side = round(whole * (least + (1 - least) * self._uniform()))
        if size == whole and self._uniform() < 0.5:
            side = whole  # as they are
        down, right = self._below(whole - side + 1), self._below(whole - side + 1)
        x = x[..., down : down + side, right : right + side].float()
        if side == size:
            return x
        return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)

    def _varied(self, x: Tensor) -> Tensor:
        """Mirror, change colours, add noise."""
        mirrored = torch.rand(len(x), 1, 1, 1, generator=self.generator) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
        gain = torch.exp(0.2 * torch.randn(len(x), 3, 1, 1, generator=self.generator))
        x = torch.where(torch.rand(len(x), 1, 1, 1, generator=self.generator) < 0.5, x * gain, x)
        if self._uniform() < 0.2:
            x = x + 8 * self._uniform() * torch.randn(x.shape, generator=self.generator)
        return x.clamp(0, 255).round()

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def _below(self, number: int) -> int:
        return int(torch.randint(number, (), generator=self.generator))


def pictures(
    photographs: Sequence[Path],
    panoramas: Sequence[Path],
    count: int,
    seed: int,
    size: int = _STORED,
    least: float = 0.4,
) -> Tensor:
    """Cut square crops out of photographs and views out of panoramas, half of each, all upright.

    Args:
        photographs: Upright photographs; if there are none, all pictures are views.
        panoramas: Equirectangular panoramas; if there are none, all pictures are crops.
        count: How many pictures.
        seed: Decides everything random.
        size: Side of the pictures, pixels.
        least: Least share of the shorter side that a crop has.

    Returns:
        uint8 of shape `(count, 3, size, size)`.
    """
    generator = torch.Generator().manual_seed(seed)
    cropped = count // 2 if photographs and panoramas else count if photographs else 0
    crops = [_square(_read(path), generator, size, least) for path in _turns(photographs, cropped)]
    views = [_view(_read(path), generator, size) for path in _turns(panoramas, count - cropped)]
    return torch.stack([*crops, *views])


def _turns(paths: Sequence[Path], count: int) -> list[Path]:
    return [paths[index % len(paths)] for index in range(count)]


def _read(path: Path) -> Tensor:
    with Image.open(path) as file:
        pixels: Tensor = pil_to_tensor(file.convert("RGB"))
    return pixels


def _square(image: Tensor, generator: torch.Generator, size: int, least: float) -> Tensor:
    """Cut a square of at least this share of the shorter side, and resize it."""
    short = min(image.shape[1:])
    share = least + (1 - least) * float(torch.rand((), generator=generator))
    side = min(short, max(size, round(share * short)))
    down, right = (
        int(torch.randint(whole - side + 1, (), generator=generator)) for whole in image.shape[1:]
    )
    square = image[None, :, down : down + side, right : right + side].float()
    resized = F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)
    return resized[0].round().byte()


def _view(panorama: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Look into a panorama in a random direction, about level, through a lens of 45 to 85°."""
    yaw, lens = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    pitch_rad = math.radians(8 * float(torch.randn((), generator=generator)))
    reach = math.tan(math.radians(45 + 40 * lens) / 2)
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 * reach / size) - reach
    down, right = torch.meshgrid(places, places, indexing="ij")
    # The ray (right, down, 1) of each pixel, lifted by the pitch.
    forward = math.cos(pitch_rad) + math.sin(pitch_rad) * down
    below = math.cos(pitch_rad) * down - math.sin(pitch_rad)
    longitude = torch.atan2(right, forward) / (2 * math.pi) + yaw
    latitude = torch.atan2(below, torch.hypot(right, forward)) / math.pi  # −1/2 … 1/2
    shrink = max(1, round(2 * reach * panorama.shape[2] / (2 * math.pi) / size))  # against aliasing
    small = F.avg_pool2d(panorama[None].float(), shrink) if shrink > 1 else panorama[None].float()
    wrapped = torch.cat([small, small[..., : small.shape[3] // 8]], 3)
    stretch = small.shape[3] / wrapped.shape[3]
    grid = torch.stack([(longitude % 1) * 2 * stretch - 1, 2 * latitude], -1)
    seen = F.grid_sample(wrapped, grid[None].float(), align_corners=False, padding_mode="border")
    return seen[0].round().clamp(0, 255).byte()
