"""Checkpoints of strangers: nothing is executed, and nothing is larger than the file."""

import io
import pickle
import struct
import zipfile

import pytest
import torch

from eqrestore_lightning.weights import read_checkpoint, reading

CONTENT = {
    "state_dict": {"x": torch.arange(4.0), "y": torch.nn.Parameter(torch.zeros(2, 3))},
    "hyper_parameters": {"name": "a", "size": [1, 2], "dtype": torch.float16, "none": None},
}


def _records(content=CONTENT):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _zip(path, records, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(f"a/{name}", content)
    return path


def _refused(path, told):
    message = f"^Expected {path} to be a checkpoint of tensors and plain values, but got: .*{told}"
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.ckpt"


@pytest.mark.parametrize(
    "write", [lambda path: torch.save(CONTENT, path), lambda path: _zip(path, _records())]
)
def test_what_torch_saves_is_read(write, path):
    write(path)
    content = read_checkpoint(path)
    assert content["hyper_parameters"] == CONTENT["hyper_parameters"]
    for name, value in CONTENT["state_dict"].items():
        assert torch.equal(content["state_dict"][name], value)


def test_entries_that_inflate_are_refused(path):
    records = {**_records(), "data/0": bytes(10**6)}
    _zip(path, records, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    _refused(path, "compressed entries, which torch.save does not write")
    claimed = _zip(path, _records()).read_bytes()
    for entry in (claimed.index(b"PK\1\2") + 20, claimed.index(b"PK\1\2") + 24):  # both its sizes
        claimed = claimed[:entry] + struct.pack("<I", 10**9) + claimed[entry + 4 :]
    path.write_bytes(claimed)
    _refused(path, "")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R", "__builtin__ bytearray"),
        (b"ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R", "torch Tensor"),
        (b"cos\nsystem\nX\x02\0\0\0id\x85R", "os system"),
        (pickle.dumps(print, 4)[2:-1], ""),  # by a name on the stack
    ],
)
def test_names_that_make_objects_of_any_size_are_refused(call, name, path):
    pickled = b"\x80\x02}X\x0a\0\0\0state_dict" + call + b"s."
    _zip(path, {**_records(), "data.pkl": pickled})
    _refused(path, f"the name '{name}" if name else "the name ")


def test_many_values_are_refused(path):
    for count, told in (
        (200_000, "200,004 lists and the like"),
        (3_000_000, "more than 2,000,000"),
    ):
        pickled = b"\x80\x02}X\x0a\0\0\0state_dict](" + b"]" * count + b"es."
        _zip(path, {**_records(), "data.pkl": pickled})
        _refused(path, told.replace("200,004", r"200,00\d"))


def test_tensors_that_claim_more_than_the_file_holds_are_refused(path):
    torch.save({"state_dict": {"x": torch.zeros(1).expand(10**6, 10**6)}}, path)
    _refused(path, r"tensors that claim 4,000,000,000,000 bytes, which is more than the file holds")
    shared = torch.zeros(1_000)  # one storage, many names
    torch.save({"state_dict": {str(number): shared for number in range(100)}}, path)
    _refused(path, "tensors that claim 400,000 bytes")
    torch.save({"state_dict": {"x": shared}}, path)
    read_checkpoint(path)


@pytest.mark.parametrize("count", [5, 1_000, 2**31 - 1])
def test_storages_end_where_the_file_ends(count, path):
    records = _records({"state_dict": {"x": torch.arange(4.0)}})
    claim = b"J" + struct.pack("<i", count)
    storage = records["data.pkl"].replace(b"K\x04tq", claim + b"tq")
    assert storage != records["data.pkl"]
    _zip(path, {**records, "data.pkl": storage})
    assert torch.equal(read_checkpoint(path)["state_dict"]["x"], torch.arange(4.0))
    tensor = storage.replace(b"K\x04\x85q", claim + b"\x85q")
    assert tensor != storage
    _zip(path, {**records, "data.pkl": tensor})
    if count == 5:  # reaches into the next entry, not out of the file
        assert len(read_checkpoint(path)["state_dict"]["x"]) == 5
    else:
        _refused(path, "")


@pytest.mark.parametrize(
    "change",
    [
        lambda whole, other: b"x" + whole,
        lambda whole, other: other + whole,
        lambda whole, other: whole + other,
        lambda whole, other: whole[:-2] + b"\1\0x",
        lambda whole, other: whole.replace(whole[-6:-2], b"\x99\1\0\0"),
    ],
    ids=["before", "another before", "another after", "comment", "directory elsewhere"],
)
def test_archives_that_can_be_read_in_two_ways_are_refused(change, path):
    torch.save(CONTENT, path)
    whole = path.read_bytes()
    path.write_bytes(change(whole, _zip(path, _records({"other": 1})).read_bytes()))
    _refused(path, "")
    records = _records()
    _zip(path, {"DATA.PKL": records["data.pkl"], **records})  # torch ignores case
    _refused(path, "an archive that can be read in two ways")


def test_old_formats_are_refused(path):
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    _refused(path, "File is not a zip file")


@pytest.mark.parametrize("error", [MemoryError, TimeoutError, PermissionError, KeyboardInterrupt])
def test_errors_of_the_machine_pass(error):
    with pytest.raises(error), reading("a file"):
        raise error


def test_torch_runs_out_of_memory_too():
    with pytest.raises(MemoryError, match="can't allocate memory"), reading("a file"):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_become_one_of_a_line():
    with pytest.raises(ValueError, match=r"^Expected a file, but got: one$"), reading("a file"):
        raise RuntimeError("one\ntwo")
    with (
        pytest.raises(ValueError, match=r"^Expected a file, but got: EOFError$"),
        reading("a file"),
    ):
        raise EOFError
