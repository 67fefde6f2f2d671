"""CIFAR-10, as torchvision reads it or as a folder of images, with a border of zeros."""

import io
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import CIFAR10
from tqdm import tqdm
from typing_extensions import override

from eqrestore_lightning.data._image_files import ENDINGS, read_image
from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule, split_at_random
from eqrestore_lightning.data._module import LoaderOptions, Split
from eqrestore_lightning.files._reading import reading

_VAL_SIZE = 5_000


class CIFAR10DataModule(InMemoryDataModule):
    """Serve CIFAR-10, padded with zeros; 5,000 training images are set aside for validation.

    Two forms of the images are looked for: torchvision's `cifar-10-batches-py`, and one archive
    `cifar10*.tar*` of folders `train` and `test`, each with a folder for each class. The attribute
    `source` is the path of what was found, so that tables can name it: images that were compressed
    as JPEG are not the originals.

    Args:
        root: Folder that contains, or is to contain, the images.
        padding: Zeros on each side, pixels: 4, as in the paper, makes images of 40 × 40.
        download: Whether to download torchvision's files if they are missing.
        **options: `batch_size`, `seed` and `num_workers` of `InMemoryDataModule`.

    Raises:
        FileNotFoundError: In `setup`, if the images are found in neither form.
        ValueError: If `padding` is below 0; in `setup`, if the images are not 32 × 32 with three
            channels, or not of ten classes, if torchvision's files are not those that were
            published, or an archive is damaged.

    Source: `torchvision.datasets.CIFAR10`; Krizhevsky, 2009; Appendix D.
    """

    in_channels = 3
    num_classes = 10

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        *,
        padding: int = 4,
        download: bool = False,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        if padding < 0:
            raise ValueError(f"Expected `padding` to be at least 0, but got {padding}.")
        self.root = Path(root)
        self.padding = padding
        self.download = download
        self.spatial_size = (32 + 2 * padding,) * 2
        self.source = ""

    @override
    def prepare_data(self) -> None:
        if self.download:
            CIFAR10(self.root, train=True, download=True)

    @override
    def load(self) -> dict[Split, ImageTensors]:
        train, test = (
            ImageTensors(F.pad(part.images, (self.padding,) * 4), part.labels)
            for part in self._read()
        )
        if len(train) <= _VAL_SIZE:
            raise ValueError(
                f"Expected more than {_VAL_SIZE} training images, but got {len(train)} "
                f"in {self.source}."
            )
        sizes: dict[Split, int] = {"train": len(train) - _VAL_SIZE, "val": _VAL_SIZE}
        return {**split_at_random(train.images, train.labels, sizes, seed=0), "test": test}

    def _read(self) -> tuple[ImageTensors, ImageTensors]:
        if (self.root / CIFAR10.base_folder).is_dir():
            self.source = str(self.root / CIFAR10.base_folder)
            return _read_batches(self.root)
        archives = sorted(self.root.glob("cifar10*.tar*"))
        if len(archives) != 1:
            raise FileNotFoundError(
                f"Expected {CIFAR10.base_folder} or one archive cifar10*.tar* in "
                f"{self.root.absolute()}, but found "
                f"{[path.name for path in archives] or 'none'}; "
                f"CIFAR10DataModule(root, download=True).prepare_data() fetches the first."
            )
        self.source = str(archives[0])
        return _read_archive(archives[0])


def _read_batches(root: Path) -> tuple[ImageTensors, ImageTensors]:
    """Read the pickles of CIFAR-10's authors, which torchvision compares with their digests."""
    with reading(f"{root / CIFAR10.base_folder} to hold CIFAR-10 as its authors published it"):
        parts = [CIFAR10(root, train=train) for train in (True, False)]
    train, test = (
        ImageTensors(
            torch.as_tensor(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)
        )
        for part in parts
    )
    return train, test


def _read_archive(path: Path) -> tuple[ImageTensors, ImageTensors]:
    """Decode `train/CLASS/` and `test/CLASS/` in one pass, in the order of the archive."""
    images: dict[str, list[Tensor]] = {"train": [], "test": []}
    names: dict[str, list[str]] = {"train": [], "test": []}
    with reading(f"{path} to be a whole archive of images"), tarfile.open(path) as archive:
        for member in tqdm(archive, desc=f"Decoding {path}", leave=False, disable=None):
            *_, split, name, file_name = ("", "", *PurePosixPath(member.name).parts)
            if member.isreg() and split in images and file_name.lower().endswith(ENDINGS):
                content = io.BytesIO(cast(IO[bytes], archive.extractfile(member)).read())
                images[split].append(read_image(Path(f"{path}:{member.name}"), file=content))
                names[split].append(name)
        cast(IO[bytes], archive.fileobj).read()  # up to the checksum at the end
    sizes = {tuple(image.shape) for part in images.values() for image in part}
    if not all(images.values()) or sizes != {(3, 32, 32)}:
        raise ValueError(
            f"Expected images of 3 × 32 × 32 in train/CLASS and test/CLASS in {path}, but got "
            f"{len(images['train'])} and {len(images['test'])}, of the shapes {sorted(sizes)}."
        )
    classes = sorted({*names["train"], *names["test"]})
    if len(classes) != CIFAR10DataModule.num_classes:
        raise ValueError(f"Expected 10 classes in {path}, but got {classes}.")
    labels = {split: [classes.index(name) for name in part] for split, part in names.items()}
    train, test = (
        ImageTensors(torch.stack(images[split]), torch.tensor(labels[split])) for split in images
    )
    return train, test
