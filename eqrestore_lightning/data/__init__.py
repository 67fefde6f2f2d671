"""Data modules: digits, MNIST, CIFAR-10, 3D-MNIST, and your own images or signals."""

from eqrestore_lightning.data._cifar10 import CIFAR10DataModule
from eqrestore_lightning.data._crops import PhotoCrops
from eqrestore_lightning.data._digits import DigitsDataModule
from eqrestore_lightning.data._image_files import (
    cut_window,
    find_images,
    read_image,
    read_image_size,
)
from eqrestore_lightning.data._image_folder import ImageFolderDataModule
from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._mnist import Enlarge, MNISTDataModule
from eqrestore_lightning.data._mnist3d import MNIST3DDataModule
from eqrestore_lightning.data._module import DataModule, LoaderOptions, Split
from eqrestore_lightning.data._photo_crops import PhotoCropDataModule
from eqrestore_lightning.data._photographs import find_photographs
from eqrestore_lightning.data._problems import Problem, find_problems
from eqrestore_lightning.data._signals import SignalDataModule
from eqrestore_lightning.data._sources import SourceRule, source_prefix

__all__ = [
    "CIFAR10DataModule",
    "DataModule",
    "DigitsDataModule",
    "Enlarge",
    "ImageFolderDataModule",
    "ImageTensors",
    "InMemoryDataModule",
    "LoaderOptions",
    "MNIST3DDataModule",
    "MNISTDataModule",
    "PhotoCropDataModule",
    "PhotoCrops",
    "Problem",
    "SignalDataModule",
    "SourceRule",
    "Split",
    "cut_window",
    "find_images",
    "find_photographs",
    "find_problems",
    "read_image",
    "read_image_size",
    "source_prefix",
]
