"""MNIST, enlarged to 32 × 32."""

import os
from pathlib import Path
from typing import Literal, TypeAlias, Unpack, get_args

import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule
from eqrestore_lightning.data._module import LoaderOptions, Split

Enlarge: TypeAlias = Literal["pad", "resize"]
_VAL_SIZE = 5_000


class MNISTDataModule(InMemoryDataModule):
    """Serve MNIST at 32 × 32: the first 55,000 training images, the other 5,000, and the test set.

    Args:
        root: Folder that contains, or is to contain, `MNIST/raw`.
        enlarge: `"pad"` with two zeros on each side, or `"resize"` as in the paper.
        download: Whether to download what is missing.
        **options: `batch_size`, `seed` and `num_workers` of `DataModule`.

    Raises:
        FileNotFoundError: In `setup`, if the files are missing.
        ValueError: If `enlarge` is unknown.

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

    def prepare_data(self) -> None:
        """Download the files, in one process, if `download` is set."""
        if self.download:
            read_mnist(self.root, download=True)

    def load(self) -> dict[Split, ImageTensors]:
        """Read the files."""
        (images, labels), (test_images, test_labels) = read_mnist(self.root)
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
    """Read training and test set: uint8 images `(num_images, 1, 28, 28)` and int64 labels.

    Raises:
        FileNotFoundError: If the files are missing.
    """
    try:
        train, test = (MNIST(root, train=train, download=download) for train in (True, False))
    except RuntimeError as error:
        raise FileNotFoundError(
            f"Expected the files of MNIST in {(root / 'MNIST' / 'raw').absolute()}, but "
            f"found none; MNISTDataModule(root, download=True).prepare_data() fetches them."
        ) from error
    return (
        (train.data.unsqueeze(1), train.targets.long()),
        (test.data.unsqueeze(1), test.targets.long()),
    )
