"""Modules are loaded from what the checkpoint holds, if it is whole, and from nothing else."""

import io
import os

import pytest
import torch
from torch.utils.data import DataLoader

from eqrestore_lightning import ClassifierModule, RestorerModule, TranslationEstimator
from eqrestore_lightning.training._classifier import load_classifier
from eqrestore_lightning.weights._files import estimator_config

NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}


def _save(module, path, **changes):
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
        **changes,
    }
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.ckpt"


def _restorer():
    return RestorerModule(TranslationEstimator(1, (6, 7), **NETWORK))


def test_what_was_saved_is_loaded(path):
    module = _restorer()
    _save(module, path)
    loaded = RestorerModule.load_from_checkpoint(path, map_location="cpu", learning_rate=0.5)
    assert loaded.hparams["learning_rate"] == 0.5
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    path.unlink()  # nothing refers to it any more
    assert torch.isfinite(loaded(torch.rand(1, 1, 6, 7))).all()


def test_checkpoints_of_other_modules_are_refused(path):
    _save(ClassifierModule(1, 2), path)
    with pytest.raises(ValueError, match=r"to be a checkpoint of a RestorerModule, but got"):
        RestorerModule.load_from_checkpoint(path)
    state = _restorer().state_dict()
    del state["estimator.layers.0.weight"]
    _save(_restorer(), path, state_dict=state)
    with pytest.raises(ValueError, match=r'Missing key\(s\) in state_dict: "estimator.layers.0.we'):
        RestorerModule.load_from_checkpoint(path)


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_without_its_digest_it_is_neither_loaded_nor_resumed(digest, path, build_trainer):
    module = _restorer()
    content = torch.load(_save(module, path))
    content["digest"] = digest
    torch.save(content, path)
    message = "to hold the digest of its content, .*, but got (none|000)"
    with pytest.raises(ValueError, match=message):
        RestorerModule.load_from_checkpoint(path)
    trainer = build_trainer(max_epochs=1)
    with pytest.raises(ValueError, match=message):
        trainer.fit(module, DataLoader(torch.rand(2, 1, 6, 7)), ckpt_path=path, weights_only=True)


class _Payload:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize(
    "place",
    ["hyper_parameters", "state_dict", "callbacks", "loops", "pytorch-lightning_version", "epoch"],
)
def test_no_part_of_a_checkpoint_is_executed(place, path, tmp_path):
    payload = _Payload(tmp_path / "executed")
    content = torch.load(_save(_restorer(), path))
    torch.save({**content, place: payload}, path)
    for load in (RestorerModule.load_from_checkpoint, load_classifier):
        with pytest.raises(ValueError, match=r"but got: Weights only load failed"):
            load(str(path))
    assert not payload.canary.exists()
    content = torch.load(path, weights_only=False)  # it would have been
    assert payload.canary.exists()
    assert content


def test_functions_that_are_named_are_not_called(path):
    module = _restorer()
    for change in (
        {"_instantiator": "os.getcwd"},
        {"estimator": {"kind": "os.getcwd"}},
        {"motion": {"kind": "os.getcwd"}},
    ):
        _save(module, path, hyper_parameters={**module.hparams, **change})
        with pytest.raises(ValueError, match=r"^Expected .*x\.ckpt to "):
            RestorerModule.load_from_checkpoint(path)


def test_only_files_are_read_unless_trusted(path):
    module = _restorer()
    content = _save(module, path).read_bytes()
    with pytest.raises(ValueError, match="to be a checkpoint of tensors and plain values, but got"):
        RestorerModule.load_from_checkpoint(io.BytesIO(content))
    with pytest.raises(FileNotFoundError):
        RestorerModule.load_from_checkpoint("https://example.org/x.ckpt")
    loaded = RestorerModule.load_from_checkpoint(io.BytesIO(content), weights_only=False)
    assert estimator_config(loaded.estimator) == estimator_config(module.estimator)
