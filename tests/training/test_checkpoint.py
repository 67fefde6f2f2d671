"""Modules are loaded from what the checkpoint holds, and from nothing else."""

import io
import os

import pytest
import torch

from eqrestore_lightning import ClassifierModule, RestorerModule, TranslationEstimator
from eqrestore_lightning.training import load_classifier
from eqrestore_lightning.weights import estimator_config

pytestmark = pytest.mark.filterwarnings("ignore:.*holds no digest", "ignore:.*not found")

NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}


def _save(module, path, **changes):
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
        **changes,
    }
    torch.save(content, path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.ckpt"


def _restorer():
    return RestorerModule(TranslationEstimator(1, (6, 7), **NETWORK))


def test_what_was_checked_is_loaded(path):
    module = _restorer()
    _save(module, path)
    loaded = RestorerModule.load_from_checkpoint(path, map_location="cpu", learning_rate=0.5)
    assert loaded.hparams["learning_rate"] == 0.5
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].data_ptr() != value.data_ptr()
    path.unlink()  # nothing refers to it any more
    assert torch.isfinite(loaded(torch.rand(1, 1, 6, 7))).all()


@pytest.mark.parametrize("num_classes", [10**10, 10**6])
def test_a_classifier_cannot_claim_memory(num_classes, path):
    module = ClassifierModule(1, 2)
    parameters = {**module.hparams, "num_classes": num_classes}
    with torch.device("meta"):
        shapes = ClassifierModule(**parameters).state_dict()
    _save(module, path, hyper_parameters=parameters)
    with pytest.raises(ValueError, match=r"x\.ckpt to be .*, but got: .* of shape \(2, .*, not \("):
        load_classifier(str(path))
    state = {name: torch.zeros(()).expand(value.shape) for name, value in shapes.items()}
    _save(module, path, hyper_parameters=parameters, state_dict=state)
    with pytest.raises(ValueError, match=r"tensors that claim [\d,]+ bytes, which is more than"):
        load_classifier(str(path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value: None, "of shape none, not"),
        (lambda value: value.tolist(), "of shape none, not"),
        (lambda value: value.to(torch.int64), "of dtype torch.int64, not torch.float32"),
        (lambda value: value[:1], r"of shape \(1, "),
    ],
)
def test_tensors_must_be_those_of_the_module(change, told, path):
    module = _restorer()
    state = module.state_dict()
    state["estimator.layers.0.weight"] = change(state["estimator.layers.0.weight"])
    _save(module, path, state_dict=state)
    with pytest.raises(ValueError, match=f"but got: estimator.layers.0.weight {told}"):
        RestorerModule.load_from_checkpoint(path)


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
    _save(_restorer(), path, **{place: payload})
    for load in (RestorerModule.load_from_checkpoint, load_classifier):
        with pytest.raises(ValueError, match=r"the name '\w+ mkdir', which tensors and plain"):
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
        with pytest.raises(ValueError, match=r"^Expected .*x\.ckpt to be a checkpoint of a"):
            RestorerModule.load_from_checkpoint(path)


def test_only_files_are_read_unless_trusted(path):
    module = _restorer()
    content = _save(module, path).read_bytes()
    with pytest.raises(ValueError, match="to be a checkpoint of a RestorerModule, but got"):
        RestorerModule.load_from_checkpoint(io.BytesIO(content))
    with pytest.raises(FileNotFoundError):
        RestorerModule.load_from_checkpoint("https://example.org/x.ckpt")
    loaded = RestorerModule.load_from_checkpoint(io.BytesIO(content), weights_only=False)
    assert estimator_config(loaded.estimator) == estimator_config(module.estimator)
