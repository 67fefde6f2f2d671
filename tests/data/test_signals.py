import re

import numpy as np
import pytest
import torch

from eqrestore_lightning.data import SignalDataModule

SPLITS = ("train", "val", "test")


def _save(path, array):
    np.save(path, array)
    return path


def _numbered(*shape, dtype=np.float64):
    """Signals that are told apart by their first value."""
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    array.reshape(shape[0], -1)[:, 0] = np.arange(shape[0])
    return array


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8", "int16", "uint8", "?"])
def test_arrays_become_float32(tmp_path, dtype):
    array = _numbered(30, 2, 7).astype(dtype)
    data = SignalDataModule(_save(tmp_path / "x.npy", array))
    assert [len(data.dataset(split)) for split in SPLITS] == [24, 3, 3]
    assert (data.in_channels, data.spatial_size, data.num_classes) == (2, (7,), 1)
    for split in SPLITS:
        signals, labels = next(iter(data.dataset(split).loader(30)))
        rows = [int(name.removeprefix("signal ")) for name in data.names(split)]
        assert signals.dtype == torch.float32
        assert torch.equal(signals, torch.from_numpy(array[rows].astype("float32")))
        assert labels.tolist() == [0] * len(signals)
    assert data.describe_split() == ("24 signals for training, 3 for validation, 3 for testing.")


def test_one_channel_needs_no_axis(tmp_path):
    path = _save(tmp_path / "x.npy", _numbered(20, 9))
    data = SignalDataModule(path)
    data.setup()
    assert (data.in_channels, data.spatial_size) == (1, (9,))
    every = [row for split in SPLITS for row in data.dataset(split).images[:, 0, 0].tolist()]
    assert sorted(every) == list(range(20))
    again, other = SignalDataModule(path), SignalDataModule(path, seed=1)
    assert again.fingerprint() == data.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "first{}second{}third{}4th\n"])
def test_tables(tmp_path, delimiter, header):
    array = _numbered(11, 4)
    path = tmp_path / "x.csv"
    rows = "\n".join(delimiter.join(map(repr, map(float, row))) for row in array)
    path.write_text(header.replace("{}", delimiter) + rows + "\n", encoding="utf-8-sig")
    data = SignalDataModule(path)
    found = torch.cat([data.dataset(split).images for split in SPLITS])
    assert found.shape == (11, 1, 4)
    order = found[:, 0, 0].argsort()
    assert torch.equal(found[order, 0], torch.from_numpy(array.astype("float32")))


def _rejects(error, message, path, **options):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        SignalDataModule(path, **options).setup()


def test_what_is_no_file_of_signals(tmp_path):
    _rejects(
        FileNotFoundError,
        f"Expected a file of signals, but found none at {tmp_path / 'x.npy'}.",
        tmp_path / "x.npy",
    )
    _rejects(
        ValueError,
        f"Expected a file ending in .npy or .csv, but got {tmp_path / 'x.mat'}.",
        tmp_path / "x.mat",
    )


def test_arrays_that_are_no_signals(tmp_path):
    path = tmp_path / "x.npy"
    for shape in ((12,), (12, 1, 2, 3)):
        _rejects(
            ValueError,
            f"Expected an array of shape (n, length) or (n, channels, length) in {path}, "
            f"but got {shape}.",
            _save(path, np.zeros(shape)),
        )
    for dtype in ("complex64", "U3", "datetime64[s]"):
        name = np.zeros(1, dtype).dtype
        _rejects(
            ValueError,
            f"Expected an array of real numbers in {path}, but got dtype {name}.",
            _save(path, np.zeros((12, 3), dtype)),
        )
    for shape in ((9, 1, 5), (12, 0, 5), (12, 1, 1)):
        _rejects(
            ValueError,
            f"Expected at least 10 signals of at least 2 samples in {path}, one in each row, "
            f"but got {shape[0]} of {shape[2]} samples and {shape[1]} channels.",
            _save(path, np.zeros(shape)),
        )
    array = np.zeros((12, 3))
    for value in (np.nan, -np.inf, 1e200):
        array[7, 1] = array[9, 0] = value
        _rejects(
            ValueError,
            f"Expected finite numbers in {path}, within the range of float32, but got others in "
            f"2 of 12 signals, first in signal 7 (counted from 0).",
            _save(path, array),
        )


def test_files_that_are_no_arrays(tmp_path):
    path = tmp_path / "x.npy"
    message = f"Expected {path} to be an array saved by numpy.save, but got: "
    for content in (b"", b"no array", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        _rejects(ValueError, message, path)
    np.save(path, np.array([{"code": "to be executed"}] * 12), allow_pickle=True)
    _rejects(ValueError, message + "Array can't be memory-mapped: Python objects in dtype", path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros((12, 3)))
    _rejects(ValueError, f"Expected {path} to be one array, but got an archive of several.", path)


def test_tables_that_are_no_signals(tmp_path):
    path = tmp_path / "x.csv"
    message = (
        f"Expected {path} to hold one signal in each row, as numbers separated by commas, "
        f"semicolons or tabs, but got: "
    )
    rows = ["1,2,3"] * 12
    for bad in ("1,two,3", "1,,3", "1,2", "1,2,3,4", "1,2,3,"):
        for place in (0, 5):
            changed = [*rows[:place], bad, *rows[place + 1 :]]
            path.write_text("\n".join(changed), encoding="utf-8")
            _rejects(ValueError, message, path)
    path.write_bytes(b"\xff\xfe\x00")
    _rejects(ValueError, message, path)
    for text in ("", "a,b,c\n"):
        path.write_text(text, encoding="utf-8")
        _rejects(ValueError, "Expected at least 10 signals of at least 2 samples in", path)
