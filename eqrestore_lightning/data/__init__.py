"""Data modules: digits, MNIST, CIFAR-10, 3D-MNIST, and your own images or signals."""

from eqrestore_lightning.data._cifar10 import CIFAR10DataModule
from eqrestore_lightning.data._digits import DigitsDataModule
from eqrestore_lightning.data._image_folder import ImageFolderDataModule
from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._mnist import MNISTDataModule
from eqrestore_lightning.data._mnist3d import MNIST3DDataModule
from eqrestore_lightning.data._photo_crops import PhotoCropDataModule
from eqrestore_lightning.data._signals import SignalDataModule

__all__ = [
    "CIFAR10DataModule",
    "DigitsDataModule",
    "ImageFolderDataModule",
    "ImageTensors",
    "InMemoryDataModule",
    "MNIST3DDataModule",
    "MNISTDataModule",
    "PhotoCropDataModule",
    "SignalDataModule",
]
