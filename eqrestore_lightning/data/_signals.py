"""Signals of one spatial axis, from an array or a table."""

import os
import warnings
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from typing_extensions import override

from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule, random_positions
from eqrestore_lightning.data._module import LoaderOptions, Split, check_split
from eqrestore_lightning.files._reading import reading

_SUFFIXES = (".npy", ".csv")
_SHARE = 10  # a tenth of the signals is for validation, and a tenth for testing


class SignalDataModule(InMemoryDataModule):
    """Serve signals, as float32 of shape `(batch, channels, length)`, in their own unit.

    A tenth each is set aside for validation and testing, chosen at random by `seed`. All are of
    class 0: a restorer needs no classes.

    Args:
        root: A file ending in `.npy`, of shape `(n, channels, length)` or `(n, length)`, of real
            numbers; or in `.csv`, one signal of one channel in each row, separated by commas,
            semicolons or tabs, with or without a header.
        **options: `batch_size`, `seed` and `num_workers` of `InMemoryDataModule`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its name has another ending; in `setup`, if it does not hold at least ten
            signals, of one length and of finite real numbers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/waves.npy", np.zeros((20, 2, 50)))
    ...     data = SignalDataModule(f"{folder}/waves.npy", batch_size=4)
    ...     next(iter(data.train_dataloader()))[0].shape
    torch.Size([4, 2, 50])
    """

    num_classes = 1
    noun = "signals"

    def __init__(self, root: str | os.PathLike[str], **options: Unpack[LoaderOptions]) -> None:
        super().__init__(**options)
        self.root = Path(root)
        if self.root.suffix.lower() not in _SUFFIXES:
            raise ValueError(
                f"Expected a file ending in {' or '.join(_SUFFIXES)}, but got {self.root}."
            )
        if not self.root.is_file():
            raise FileNotFoundError(
                f"Expected a file of signals, but found none at {self.root.absolute()}."
            )

    @override
    def load(self) -> dict[Split, ImageTensors]:
        array = _read_npy(self.root) if self.root.suffix.lower() == ".npy" else _read_csv(self.root)
        signals = torch.from_numpy(_checked(array, self.root))
        self.in_channels, length = signals.shape[1:]
        self.spatial_size = (length,)
        share = len(signals) // _SHARE
        sizes: dict[Split, int] = {"train": len(signals) - 2 * share, "val": share, "test": share}
        self._rows = random_positions(sizes, seed=self.seed)
        return {
            split: ImageTensors(signals[rows], torch.zeros(len(rows), dtype=torch.int64))
            for split, rows in self._rows.items()
        }

    @override
    def names(self, split: Split) -> list[str]:
        check_split(split)
        self.setup()
        return [f"signal {row}" for row in self._rows[split].tolist()]


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    with reading(f"{path} to be an array saved by numpy.save"):
        # mapped, so that a header cannot claim memory for more than the file holds
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"Expected {path} to be one array, but got an archive of several.")
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected an array of real numbers in {path}, but got dtype {array.dtype}."
        )
    if array.ndim not in (2, 3):
        raise ValueError(
            f"Expected an array of shape (n, length) or (n, channels, length) in {path}, "
            f"but got {array.shape}."
        )
    return array if array.ndim == 3 else array[:, np.newaxis]


def _read_csv(path: Path) -> np.ndarray[Any, Any]:
    expected = f"{path} to hold one signal in each row, as numbers"
    with (
        reading(f"{expected} separated by commas, semicolons or tabs"),
        path.open(encoding="utf-8-sig") as file,
    ):
        first = file.readline()
        delimiter = max(",;\t", key=first.count)
        if any(_is_number(cell) for cell in first.split(delimiter)):  # no header
            file.seek(0)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of no rows
            table = np.loadtxt(file, delimiter=delimiter, comments=None, ndmin=2)
    return table[:, np.newaxis]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _checked(array: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    """Convert to float32, if all numbers are finite then."""
    num_signals, channels, length = array.shape
    if num_signals < _SHARE or channels < 1 or length < 2:
        raise ValueError(
            f"Expected at least {_SHARE} signals of at least 2 samples in {path}, one in each row, "
            f"but got {num_signals} of {length} samples and {channels} channels."
        )
    with np.errstate(over="ignore"):
        signals = array.astype(np.float32)
    finite = np.isfinite(signals).all((1, 2))
    if not finite.all():
        raise ValueError(
            f"Expected finite numbers in {path}, within the range of float32, but got others in "
            f"{np.sum(~finite)} of {num_signals} signals, first in signal {np.argmin(finite)} "
            f"(counted from 0)."
        )
    return signals
