"""MNIST, enlarged to 32 × 32."""

import os
from pathlib import Path
from typing import Literal, TypeAlias, Unpack, get_args

import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.transforms.v2 import functional as TF
from typing_extensions import override

from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._module import LoaderOptions, Split
from eqrestore_lightning.files._reading import reading

Enlarge: TypeAlias = Literal["pad", "resize"]
_VAL_SIZE = 5_000
_FILES = tuple(
    (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")
)


class MNISTDataModule(InMemoryDataModule):
    """Serve MNIST at 32 × 32: the first 55,000 training images, the other 5,000, and the test set.

    Args:
        root: Folder that contains, or is to contain, `MNIST/raw`.
        enlarge: `"pad"` with two zeros on each side, or `"resize"` as in the paper.
        download: Whether to download what is missing.
        **options: `batch_size`, `seed` and `num_workers` of `InMemoryDataModule`.

    Raises:
        FileNotFoundError: In `setup`, if the files are missing.
        ValueError: If `enlarge` is unknown; in `setup`, if the files hold anything else.

    Source: `torchvision.datasets.MNIST`; LeCun et al., 1998; Appendix D.
    """

    in_channels = 1
    num_classes = 10

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        *,
        enlarge: Enlarge = "pad",
        download: bool = False,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        if enlarge not in get_args(Enlarge):
            raise ValueError(
                f"Expected `enlarge` to be one of {get_args(Enlarge)}, but got {enlarge!r}."
            )
        self.root = Path(root)
        self.enlarge: Enlarge = enlarge
        self.download = download

    @override
    def prepare_data(self) -> None:
        if self.download:
            read_mnist(self.root, download=True)

    @override
    def load(self) -> dict[Split, ImageTensors]:
        (images, labels), (test_images, test_labels) = read_mnist(self.root)
        if len(images) <= _VAL_SIZE:
            raise ValueError(
                f"Expected more than {_VAL_SIZE} training images, but got {len(images)} "
                f"in {self.root}."
            )
        images, test_images = self._enlarge(images), self._enlarge(test_images)
        return {
            "train": ImageTensors(images[:-_VAL_SIZE], labels[:-_VAL_SIZE]),
            "val": ImageTensors(images[-_VAL_SIZE:], labels[-_VAL_SIZE:]),
            "test": ImageTensors(test_images, test_labels),
        }

    def _enlarge(self, images: Tensor) -> Tensor:
        if self.enlarge == "resize":
            resized: Tensor = TF.resize(images, [32, 32], antialias=True)
            return resized
        return F.pad(images, (2, 2, 2, 2))


def read_mnist(
    root: Path, *, download: bool = False
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read training and test set: uint8 images `(num_images, 1, 28, 28)` and int64 labels."""
    if download:
        MNIST(root, download=True)
    folder = (root / "MNIST" / "raw").absolute()
    if not all((folder / name).is_file() for names in _FILES for name in names):
        raise FileNotFoundError(
            f"Expected the files of MNIST in {folder}, but "
            f"found none; MNISTDataModule(root, download=True).prepare_data() fetches them."
        )
    train, test = (_read_part(folder, *names) for names in _FILES)
    return train, test


def _read_part(folder: Path, images_name: str, labels_name: str) -> tuple[Tensor, Tensor]:
    with reading(f"{folder / images_name} to be images of MNIST"):
        images: Tensor = read_image_file(str(folder / images_name))
        if images.shape[1:] != (28, 28):
            raise ValueError(f"images of {' × '.join(map(str, images.shape[1:]))} pixels")
    with reading(f"{folder / labels_name} to be the classes of {len(images)} digits"):
        labels: Tensor = read_label_file(str(folder / labels_name))
        if len(labels) != len(images) or not bool((labels <= 9).all()):
            raise ValueError(f"{len(labels)}, of which {int((labels > 9).sum())} are above 9")
    return images.unsqueeze(1), labels.long()
