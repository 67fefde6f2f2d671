"""What `eqrestore restore` is asked to do, and what of it is done."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from eqrestore_lightning import __version__
from eqrestore_lightning.data._image_files import read_image, read_image_size
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights._digest import content_digest
from eqrestore_lightning.weights._files import estimator_config

TABLE, SKIPPED = "shifts.csv", "skipped.csv"
SKIP = "`--skip_bad` leaves such files out."
_PREFIX = ".unfinished-"
_SHOWN = 3  # files in a message

Batch: TypeAlias = tuple[int, list[tuple[Path, Tensor | str]]]
"""Its number, and files with their images, or why these cannot be restored."""


@dataclass(frozen=True, eq=False)
class Job(Dataset[Batch]):
    """What is restored, and where to; as a data set, the batches of files that follow each other.

    Batches are the same for any number of processes, and after an interruption, so that what is
    written is the same. A batch is done when the file of its rows exists, in a hidden folder of the
    output that is named after all that determines what is written.
    """

    restore: RestoreTransform
    root: Path
    files: Sequence[Path]
    output: Path
    resize: bool
    same_format: bool
    skip_bad: bool
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        return number, [(path, self._read(path)) for path in self._batch(number)]

    def _batch(self, number: int) -> Sequence[Path]:
        return self.files[number * self.batch_size : (number + 1) * self.batch_size]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to resize images to, if at all."""
        if not self.resize or self.restore.estimator.spatial_size is None:
            return None
        height, width = self.restore.estimator.spatial_size
        return height, width

    @cached_property
    def record(self) -> Path:
        """The hidden folder, which goes when all is done."""
        return self.output / f"{_PREFIX}{self._digest()}"

    def rows(self, number: int) -> Path:
        """Return the file that holds the rows of a batch that is done."""
        return self.record / f"{number:08}.json"

    def num_left(self) -> int:
        """Return the number of images that are not done."""
        left = (number for number in range(len(self)) if not self.rows(number).exists())
        return sum(len(self._batch(number)) for number in left)

    def target(self, path: Path) -> Path:
        """Return the name of what an image becomes, relative to the output folder."""
        name = path.relative_to(self.root)
        return name if self.same_format else name.with_suffix(".png")

    def check(self) -> None:
        """Check the output folder, the names and, unless bad ones are skipped, the headers."""
        self._check_output()
        self._check_targets()
        if self.skip_bad:
            return
        bad = [problem for path in self.files if (problem := self._problem(path)) is not None]
        if bad:
            more = f"{len(bad)} files cannot be restored. " if len(bad) > 1 else ""
            rest = f" (and {len(bad) - _SHOWN} more)" if len(bad) > _SHOWN else ""
            raise ValueError(f"{more}{' '.join(bad[:_SHOWN])}{rest} {SKIP}")

    def _check_output(self) -> None:
        if self.output.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"Expected `output` to lie outside of {self.root}, but got the same.")
        found = [path.name for path in self.output.iterdir()] if self.output.exists() else []
        if found and self.record.name not in found and found != [".lock"]:
            begun = any(name.startswith(_PREFIX) for name in found)
            raise FileExistsError(
                f"Expected `output` to be a new or empty folder, or one that the same command left "
                f"unfinished, but {self.output} holds "
                + ("what other options, weights or images began." if begun else "other files.")
            )

    def _check_targets(self) -> None:
        seen: dict[Path, Path] = {}
        for path in self.files:
            name = self.target(path)
            if name in seen or name.parts[0] in (TABLE, SKIPPED):
                other = seen.get(name, Path(name.parts[0]))
                raise ValueError(
                    f"Expected images with different names, but {other} and {path} "
                    f"would both become {name}."
                )
            seen[name] = path
        for folder in {parent for name in seen for parent in name.parents}:
            if folder in seen:
                raise ValueError(f"Expected {folder} to be a file or a folder, but it is both.")

    def _read(self, path: Path) -> Tensor | str:
        grayscale = self.restore.estimator.in_channels == 1
        try:
            image = read_image(path, grayscale=grayscale, image_size=self.size)
            self._check_fits(path, tuple(image.shape[1:]))
        except (OSError, ValueError) as error:
            return _one_line(error)
        return image

    def _problem(self, path: Path) -> str | None:
        """Return why an image cannot be restored, as far as its header tells."""
        try:
            self._check_fits(path, self.size or read_image_size(path))
        except (OSError, ValueError) as error:
            return _one_line(error)
        return None

    def _check_fits(self, path: Path, size: tuple[int, ...]) -> None:
        estimator = self.restore.estimator
        expected = estimator.spatial_size
        if expected is not None and size != expected:
            wanted, found = (" × ".join(map(str, each)) for each in (expected, size))
            raise ValueError(
                f"Expected images of {wanted} pixels (height × width), for which the weights were "
                f"made, but got {found} in {path}; `--resize` resizes them."
            )
        channels = 1 if estimator.in_channels == 1 else 3
        try:
            estimator.check_input(torch.zeros((), dtype=torch.uint8).expand(1, channels, *size))
            estimator.motion.check(size)
        except ValueError as error:
            raise ValueError(f"Expected {path} to fit the weights, but got: {error}") from error

    def _digest(self) -> str:
        restore, sha = self.restore, hashlib.sha256(__version__.encode())
        config = json.loads(json.dumps(estimator_config(restore.estimator)))
        weights = content_digest(config, restore.estimator.state_dict())
        options = (
            restore.min_margin,
            restore.prior,
            self.resize,
            self.same_format,
            self.batch_size,
        )
        sha.update(f"{weights} {options}".encode())
        for path in self.files:
            found = path.stat()
            name = os.fsencode(path.relative_to(self.root))
            sha.update(b"%s\0%d\0%d\0" % (name, found.st_size, found.st_mtime_ns))
        return sha.hexdigest()[:16]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
