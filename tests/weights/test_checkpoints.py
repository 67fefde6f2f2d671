"""Checkpoints: what modules write is read, and nothing in a file is executed."""

import os
import pickle
import re
import zipfile

import pytest
import torch

from eqrestore_lightning.weights._checkpoints import add_digest, read_checkpoint

CONTENT = {
    "state_dict": {"x": torch.arange(4.0), "y": torch.nn.Parameter(torch.zeros(2, 3))},
    "hyper_parameters": {"name": "a", "size": [1, 2], "dtype": torch.float16, "none": None},
}


class _Payload:
    """Make a folder when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.ckpt"


def _refused(path, told=""):
    message = f"Expected {path} to be a checkpoint of tensors and plain values, but got: {told}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_checkpoint(path)


def test_what_was_saved_with_a_digest_is_read(path):
    content = dict(CONTENT)
    add_digest(content)
    torch.save(content, path)
    found = read_checkpoint(path)
    assert found["hyper_parameters"] == CONTENT["hyper_parameters"]
    for name, value in CONTENT["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)


@pytest.mark.parametrize("digest", [{}, {"digest": None}, {"digest": "0" * 64}, {"d\xe9gest": "0"}])
def test_without_the_digest_of_its_content_it_is_refused(digest, path):
    torch.save({**CONTENT, **digest}, path)
    with pytest.raises(ValueError, match=f"^Expected {path} to hold the digest of its content, "):
        read_checkpoint(path)


@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict", "callbacks", "digest"])
def test_nothing_is_executed(place, path, tmp_path):
    payload = _Payload(tmp_path / "executed")
    for content in ({**CONTENT, place: payload}, {**CONTENT, place: {"x": [payload]}}):
        torch.save(content, path)
        _refused(path, "Weights only load failed.")
    torch.save({place: payload}, path, _use_new_zipfile_serialization=False)
    _refused(path)
    path.write_bytes(pickle.dumps({place: payload}))
    _refused(path)
    assert not payload.canary.exists()
    pickle.loads(path.read_bytes())  # it would have been
    assert payload.canary.exists()


def test_other_files_are_refused(path):
    torch.save([1, 2], path)
    _refused(path, "a list, not a dictionary")
    torch.save({"hyper_parameters": 3}, path)
    _refused(path, "'int' object is not iterable")
    torch.save(CONTENT, path)
    path.write_bytes(path.read_bytes()[:-200])
    _refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(1))
    _refused(path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(path.with_name("missing.ckpt"))
