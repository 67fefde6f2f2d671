import json
import re
import struct

import lightning
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from eqrestore_lightning.nn import (
    CopiesEstimator,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)
from eqrestore_lightning.nn._base import ESTIMATORS
from eqrestore_lightning.training import RestorerModule
from eqrestore_lightning.weights import load_estimator, save_estimator
from eqrestore_lightning.weights._digest import add_digest, content_digest
from eqrestore_lightning.weights._files import estimator_config

NETWORK = {"hidden_channels": [2], "kernel_size": ["full", 1], "bias": True, "separable": True}
ROTATION = {"num_radii": 3, "num_angles": 8, "hidden_channels": [2], "kernel_size": [3, 1]}
KINDS = {
    "shifts": lambda: TranslationEstimator(1, (6, 7), **NETWORK),
    "shifts along one axis": lambda: TranslationEstimator(1, (6, 7), axes=(-1,), **NETWORK),
    "rotation": lambda: RotationEstimator(1, (6, 7), **ROTATION, sub_grid=False, fill="border"),
    "quarter turns": lambda: CopiesEstimator(2, scorer_options={"channels": [2]}),
    "both": lambda: RotoTranslationEstimator(1, (6, 7), translation=NETWORK, rotation=ROTATION),
}


@pytest.fixture
def estimator():
    return TranslationEstimator(1, (6, 7), **NETWORK)


@pytest.fixture
def saved(estimator, tmp_path):
    save_estimator(estimator, tmp_path / "e.safetensors", metadata={"made by": "a test"})
    return tmp_path / "e.safetensors"


@pytest.fixture
def checkpoint(estimator, tmp_path):
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, default_root_dir=tmp_path, enable_progress_bar=False
    )
    trainer.strategy.connect(RestorerModule(estimator))
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    return tmp_path / "e.ckpt"


def test_checkpoints_are_loaded(checkpoint, estimator):
    loaded = load_estimator(checkpoint)
    assert loaded.config == estimator.config
    assert not loaded.training
    x = torch.rand(3, 1, 6, 7)
    assert torch.equal(loaded(x), estimator(x))


def test_compiled_estimators_are_saved_as_others(estimator, tmp_path):
    save_estimator(torch.compile(estimator), tmp_path / "compiled.safetensors")
    assert set(load_file(tmp_path / "compiled.safetensors")) == set(estimator.state_dict())
    module = RestorerModule(estimator)
    module.estimator = torch.compile(estimator)
    trainer = lightning.Trainer(logger=False, default_root_dir=tmp_path)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "compiled.ckpt")
    x = torch.rand(3, 1, 6, 7)
    for name in ("compiled.safetensors", "compiled.ckpt"):
        assert torch.equal(load_estimator(tmp_path / name)(x), estimator(x))


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind, tmp_path):
    estimator = KINDS[kind]()
    assert json.loads(json.dumps(estimator_config(estimator))) == estimator_config(estimator)
    save_estimator(estimator, tmp_path / "e.safetensors")
    loaded = load_estimator(tmp_path / "e.safetensors")
    assert type(loaded) is type(estimator)
    assert not loaded.training
    assert loaded.config == estimator.config
    x = torch.rand(3, estimator.in_channels, *(estimator.spatial_size or (16, 18)))
    scores = estimator.exact_scores(x)
    assert torch.equal(loaded.exact_scores(x), scores)
    found = estimator.locate(scores, x)
    assert_close(loaded.locate(scores, x), found, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("shifts", {"spatial_size": [2**70]}),
        ("shifts", {"kernel_size": [[]]}),
        ("shifts", {"in_channels": -1}),
        ("shifts", {"bias": {}, "more": 1}),
        ("rotation", {"spatial_size": [6, 7, 8]}),
        ("rotation", {"num_radii": 10**6, "num_angles": 10**6}),
        ("rotation", {"axes": [-1]}),
        ("quarter turns", {"spatial_size": [6, 7]}),
        ("both", {"translation": None}),
        ("both", {"rotation": {"in_channels": 2}}),
        ("both", {"translation": {**NETWORK, "axes": [-1]}}),
    ],
)
def test_malformed_configurations_are_refused(kind, change, tmp_path):
    path = tmp_path / "e.safetensors"
    estimator = KINDS[kind]()
    _write(path, estimator)
    load_estimator(path)
    _write(path, estimator, config={**estimator_config(estimator), **change})
    with pytest.raises(ValueError, match="to hold an estimator, but got: "):
        load_estimator(path)


def test_the_factor_of_the_loss_becomes_part_of_the_estimator(tmp_path, estimator):
    module = RestorerModule(estimator)
    module.log_scale.data.fill_(2.0)
    trainer = lightning.Trainer(logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    x = torch.rand(3, 1, 6, 7)
    assert_close(load_estimator(tmp_path / "e.ckpt")(x), module(x))


def test_only_known_kinds_are_saved(tmp_path):
    class Other(TranslationEstimator):
        pass

    with pytest.raises(
        TypeError,
        match=re.escape(f"one of {sorted(ESTIMATORS)}, or of a class with `@register_estimator`, ")
        + "but got Other",
    ):
        save_estimator(Other(1, (9, 9)), tmp_path / "e.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_saving_needs_an_ending_and_a_folder(estimator, tmp_path):
    with pytest.raises(ValueError, match=r"Expected `path` to end in \.safetensors, but got"):
        save_estimator(estimator, tmp_path / "e.pt")
    with pytest.raises(FileNotFoundError, match="Expected the folder of `path` to exist, but got"):
        save_estimator(estimator, tmp_path / "no" / "e.safetensors")


def test_a_failed_write_leaves_the_old_file(estimator, saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    with pytest.raises(OSError, match="disk full"):
        save_estimator(estimator, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def _fail(*_):
    raise OSError("disk full")


def test_missing_files_and_unknown_names(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a file of weights, but found none at"):
        load_estimator(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match=r"Expected `source` to be one of \[.*\] or a path"):
        load_estimator("no-such-name")
    (tmp_path / "e.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Expected `path` to end in \.safetensors or \.ckpt"):
        load_estimator(tmp_path / "e.pth")


def _write(path, estimator, *, state=None, config=None, **changes):
    """Write a file as `save_estimator` does, digest included, of other content."""
    tensors = estimator.state_dict() if state is None else state
    description = estimator_config(estimator) if config is None else config
    notes = {"format": "eqrestore-estimator", "config": json.dumps(description), **changes}
    notes["digest"] = content_digest(notes, tensors)
    save_file({name: value.clone() for name, value in tensors.items()}, path, notes)


def _write_checkpoint(path, estimator, **changes):
    content = {
        "hyper_parameters": {"estimator": estimator_config(estimator)},
        "state_dict": RestorerModule(estimator).state_dict(),
        **changes,
    }
    add_digest(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hyper_parameters": {}}, "but got: no 'estimator'"),
        ({"hyper_parameters": {"estimator": 3}}, "but got: 'int' object is not iterable"),
        ({"state_dict": {}}, "but got: Error(s) in loading state_dict for TranslationEstimator: "),
        (
            {"hyper_parameters": {"estimator": {"kind": "Other"}}},
            "Expected `config['kind']` to be one of ['ConstructedEstimator', 'CopiesEstimator', ",
        ),
    ],
)
def test_checkpoints_of_other_modules_are_refused(content, message, estimator, tmp_path):
    path = tmp_path / "e.ckpt"
    _write_checkpoint(path, estimator)
    load_estimator(path)
    _write_checkpoint(path, estimator, **content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_estimator(path)
    assert str(error.value).startswith(f"Expected {path} to be a checkpoint of a RestorerModule")


def test_a_configuration_cannot_claim_memory(estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    config = {**estimator_config(estimator), "spatial_size": [10**6, 10**6]}
    _write(path, estimator, config=config)
    with pytest.raises(ValueError, match=r"copying a param with shape torch.Size\(\[2, 1, 6\]\)"):
        load_estimator(path)


@pytest.mark.parametrize("log_scale", [float("nan"), float("inf"), 1e9])
def test_a_factor_that_is_not_finite_is_refused(log_scale, estimator, tmp_path):
    state = {**RestorerModule(estimator).state_dict(), "log_scale": torch.tensor(log_scale)}
    _write_checkpoint(tmp_path / "e.ckpt", estimator, state_dict=state)
    with pytest.raises(ValueError, match="Expected `factor` to be finite and above 0, but got"):
        load_estimator(tmp_path / "e.ckpt")


def test_files_of_other_programs_are_refused(estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    _write(path, estimator, format="pt")
    with pytest.raises(ValueError, match="to be written by `save_estimator`, but its metadata"):
        load_estimator(path)
    path.write_bytes(struct.pack("<Q", 2**60))
    with pytest.raises(ValueError, match="to be a safetensors file, but got"):
        load_estimator(path)
