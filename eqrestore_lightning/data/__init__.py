"""Data modules: digits, MNIST, 3D-MNIST, CIFAR-10, and a folder of anyone's own images."""

from eqrestore_lightning.data._cifar10 import CIFAR10DataModule
from eqrestore_lightning.data._digits import DigitsDataModule
from eqrestore_lightning.data._image_folder import (
    ImageFolderDataModule,
    find_images,
    read_image,
)
from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule, Split
from eqrestore_lightning.data._mnist import Enlarge, MNISTDataModule
from eqrestore_lightning.data._mnist3d import MNIST3DDataModule

__all__ = [
    "CIFAR10DataModule",
    "DigitsDataModule",
    "Enlarge",
    "ImageFolderDataModule",
    "ImageTensors",
    "InMemoryDataModule",
    "MNIST3DDataModule",
    "MNISTDataModule",
    "Split",
    "find_images",
    "read_image",
]
