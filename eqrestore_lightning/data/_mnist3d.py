"""Digits as volumes: MNIST extruded, or the published 3D-MNIST."""

import os
from pathlib import Path
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from typing_extensions import override

from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._mnist import read_mnist
from eqrestore_lightning.data._module import LoaderOptions, Split
from eqrestore_lightning.files._reading import reading

_NUM_TRAIN, _NUM_VAL, _NUM_TEST = 9_000, 1_000, 2_000
_GRID = 16
_DEPTH = 6  # of an extruded digit, voxels


class MNIST3DDataModule(InMemoryDataModule):
    """Serve digits as volumes of 16³ voxels in a border of zeros.

    Either made from MNIST, in the way of the published set: each digit is resized to 16 × 16 and
    extruded to a depth of six voxels in the middle of the grid; as many as in the published set,
    9,000 for training and 1,000 for validation from MNIST's training set, 2,000 from its test set.
    Or the published file itself, whose digits were also rotated at random.

    Args:
        root: Folder that contains, or is to contain, `MNIST/raw`; or the published HDF5 file,
            `full_dataset_vectors.h5`.
        padding: Zeros on each side, voxels: 8, as in the paper, makes volumes of 32³.
        download: Whether to download MNIST if it is missing.
        **options: `batch_size` (here 64 by default), `seed` and `num_workers` of
            `InMemoryDataModule`.

    Raises:
        FileNotFoundError: In `setup`, if the files are missing.
        ImportError: In `setup`, if `root` is an HDF5 file and h5py is not installed.
        ValueError: If `padding` is below 0; in `setup`, if the files have other contents.

    Source: Section 5.1.3 of the paper; de la Iglesia Castro, "3D MNIST", 2016.
    """

    in_channels = 1
    num_classes = 10

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        *,
        padding: int = 8,
        download: bool = False,
        **options: Unpack[LoaderOptions],
    ) -> None:
        options.setdefault("batch_size", 64)
        super().__init__(**options)
        if padding < 0:
            raise ValueError(f"Expected `padding` to be at least 0, but got {padding}.")
        self.root = Path(root)
        self.padding = padding
        self.download = download
        self.spatial_size = (_GRID + 2 * padding,) * 3

    @override
    def prepare_data(self) -> None:
        if self.download:
            read_mnist(self.root, download=True)

    @override
    def load(self) -> dict[Split, ImageTensors]:
        if self.root.suffix in (".h5", ".hdf5"):
            (images, labels), (test_images, test_labels) = _read_published(self.root)
        else:
            (images, labels), (test_images, test_labels) = read_mnist(self.root)
            images, labels = images[: _NUM_TRAIN + _NUM_VAL], labels[: _NUM_TRAIN + _NUM_VAL]
            test_images, test_labels = test_images[:_NUM_TEST], test_labels[:_NUM_TEST]
            images, test_images = _extrude(images), _extrude(test_images)
        images, test_images = (F.pad(x, (self.padding,) * 6) for x in (images, test_images))
        num_val = len(images) // 10
        return {
            "train": ImageTensors(images[:-num_val], labels[:-num_val]),
            "val": ImageTensors(images[-num_val:], labels[-num_val:]),
            "test": ImageTensors(test_images, test_labels),
        }


def _extrude(digits: Tensor) -> Tensor:
    """Extrude `(batch, 1, 28, 28)` to `(batch, 1, 16, 16, 16)`: depth, height, width."""
    small: Tensor = TF.resize(digits, [_GRID, _GRID], antialias=True)
    front = (_GRID - _DEPTH) // 2
    volume = small.unsqueeze(2).expand(-1, -1, _DEPTH, -1, -1)
    return F.pad(volume, (0, 0, 0, 0, front, _GRID - _DEPTH - front))


def _read_published(path: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read `X_train`, `y_train`, `X_test`, `y_test`: rows of 4,096 occupancies from 0 to 1."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the HDF5 file of 3D-MNIST at {path.absolute()}, but found none; "
            f"it is published on Kaggle as daavoo/3d-mnist."
        )
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "Expected h5py, which reads HDF5, to be installed: pip install h5py"
        ) from error
    told = f"{path} to be an HDF5 file with X_train, y_train, X_test and y_test"
    with reading(told), h5py.File(path) as file:
        train = _read_split(file, "train", _NUM_TRAIN + _NUM_VAL)
        test = _read_split(file, "test", _NUM_TEST)
    return train, test


def _read_split(file: Any, split: str, most: int) -> tuple[Tensor, Tensor]:
    """Read the volumes, as bytes, and the classes of a split."""
    rows, classes = file[f"X_{split}"], file[f"y_{split}"]
    if rows.shape[1:] != (_GRID**3,):
        raise ValueError(f"Expected rows of {_GRID**3} occupancies, but got shape {rows.shape}.")
    if not len(classes) == len(rows) <= most:
        raise ValueError(
            f"{len(rows):,} volumes, of at most {most:,}, and {len(classes):,} classes"
        )
    labels = torch.from_numpy(classes[:]).long()
    if not bool(((labels >= 0) & (labels < MNIST3DDataModule.num_classes)).all()):
        raise ValueError(f"classes that are not from 0 to 9 in y_{split}")
    volumes = torch.from_numpy(rows[:]).float()
    if not bool(volumes.isfinite().all()):
        raise ValueError(f"occupancies that are not finite in X_{split}")
    voxels = (volumes.clamp(0, 1) * 255).round().to(torch.uint8)
    return voxels.reshape(-1, 1, _GRID, _GRID, _GRID), labels
