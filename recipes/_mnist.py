"""MNIST made harder, or more of it."""

import torch
from _augmented import Augmented
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import CIFAR10DataModule, MNISTDataModule
from eqrestore_lightning.data import ImageTensors, Split
from eqrestore_lightning.training import step_generator


class MirroredMNIST(Augmented, MNISTDataModule):
    """Mirror each training batch about pixel 16, along rows, columns, the diagonal, or not at all.

    Mirroring a coordinate about 16 maps the window in which MNIST's centres of mass lie,
    [15.5, 16.5), onto itself, so that a mirrored digit still stands where it belongs: eight times
    the training images for a restorer. (A classifier should not see mirrored digits.)
    """

    def augment(self, images: Tensor, step: int) -> Tensor:
        """Mirror a training batch, the same way in every process."""
        generator = step_generator(self.seed, step)
        rows, columns, diagonal = torch.randint(2, (3,), generator=generator).tolist()
        if rows:
            images = images.flip(2).roll(1, 2)
        if columns:
            images = images.flip(3).roll(1, 3)
        if diagonal:
            images = images.transpose(2, 3)
        return images


class NoisyMNIST(MNISTDataModule):
    """Add Gaussian noise to the padded images, border and all; clipped to 0…1, 8 bits."""

    sigma = 0.3

    def load(self) -> dict[Split, ImageTensors]:
        """Read the files and add the noise, the same in every run."""
        generator = torch.Generator().manual_seed(self.seed)

        def noisy(images: Tensor) -> Tensor:
            noise = torch.randn(images.shape, generator=generator) * self.sigma
            return ((images / 255 + noise).clamp(0, 1) * 255).round().to(torch.uint8)

        return {
            split: ImageTensors(noisy(part.images), part.labels)
            for split, part in super().load().items()
        }


class ClutteredMNIST(MNISTDataModule):
    """Write the digits over photographs: the brighter of digit and darkened CIFAR-10 image."""

    brightness = 0.6

    def load(self) -> dict[Split, ImageTensors]:
        """Read the files and the photographs, which no two splits share."""
        photographs = CIFAR10DataModule(self.root, padding=0)
        cluttered = {}
        for split, part in super().load().items():
            grey = TF.rgb_to_grayscale(photographs.dataset(split).images)
            background = grey[torch.arange(len(part)) % len(grey)].float() * self.brightness
            images = torch.maximum(part.images, background.round().to(torch.uint8))
            cluttered[split] = ImageTensors(images, part.labels)
        return cluttered
