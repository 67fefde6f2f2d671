"""Files know what they hold."""

import json
import re
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eqrestore_lightning import TranslationEstimator
from eqrestore_lightning.weights import bundled_weights, load_estimator, save_estimator
from eqrestore_lightning.weights._bundled import _FOLDER
from eqrestore_lightning.weights._digest import add_digest, read_checkpoint

NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}
CONTENT = {
    "state_dict": {"x": torch.arange(4.0), "y": torch.nn.Parameter(torch.zeros(2, 3))},
    "hyper_parameters": {"name": "a", "size": [1, 2], "dtype": torch.float16, "none": None},
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "e.safetensors"
    save_estimator(TranslationEstimator(1, (6, 7), **NETWORK), path, metadata={"made by": "a test"})
    return path


def test_files_without_a_digest_are_refused(saved):
    with safe_open(saved, framework="pt") as file:
        notes = {name: value for name, value in file.metadata().items() if name != "digest"}
    save_file(load_file(saved), saved, notes)
    with pytest.raises(ValueError, match=r"to hold the digest of its content, .*, but got none"):
        load_estimator(saved)


def test_no_flipped_bit_of_the_digest_and_its_name_goes_unnoticed(saved):
    content = saved.read_bytes()
    start = content.index(b'"digest"')
    for bit in range(8 * start, 8 * (start + len('"digest":""') + 64)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^Expected .*e\.safetensors to "):
            load_estimator(saved)


def test_the_digest_covers_the_notes(saved):
    content = saved.read_bytes()
    saved.write_bytes(content.replace(b"a test", b"others"))
    with pytest.raises(ValueError, match=r"the file is damaged, was changed, or"):
        load_estimator(saved)


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_files_are_those_of_the_index(name):
    with safe_open(_FOLDER / f"{name}.safetensors", framework="pt") as file:
        assert file.metadata()["digest"] == bundled_weights()[name]["digest"]
    load_estimator(name)


def test_checkpoints_with_the_digest_of_their_content_are_read(tmp_path):
    path = tmp_path / "x.ckpt"
    content = dict(CONTENT)
    add_digest(content)
    torch.save(content, path)
    found = read_checkpoint(path)
    assert found["hyper_parameters"] == CONTENT["hyper_parameters"]
    for name, value in CONTENT["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)
    for digest in ({}, {"digest": None}, {"digest": "0" * 64}, {"d\xe9gest": content["digest"]}):
        torch.save({**CONTENT, **digest}, path)
        with pytest.raises(ValueError, match=f"^Expected {path} to hold the digest of its cont"):
            read_checkpoint(path)


def _refused(path, told=""):
    message = f"Expected {path} to be a checkpoint of tensors and plain values, but got: {told}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_checkpoint(path)


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save([1, 2], path)
    _refused(path, "a list, not a dictionary")
    torch.save({"hyper_parameters": 3}, path)
    _refused(path, "'int' object is not iterable")
    torch.save(CONTENT, path)
    path.write_bytes(path.read_bytes()[:-200])
    _refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", json.dumps(1))
    _refused(path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(path.with_name("missing.ckpt"))
