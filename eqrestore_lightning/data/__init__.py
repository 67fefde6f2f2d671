"""Data modules: digits, MNIST, and a folder of anyone's own images."""

from eqrestore_lightning.data._digits import DigitsDataModule
from eqrestore_lightning.data._image_folder import (
    ImageFolderDataModule,
    find_images,
    read_image,
)
from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._mnist import MNISTDataModule

__all__ = [
    "DigitsDataModule",
    "ImageFolderDataModule",
    "ImageTensors",
    "InMemoryDataModule",
    "MNISTDataModule",
    "find_images",
    "read_image",
]
