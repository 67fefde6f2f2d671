"""Files know what they hold."""

import json

import lightning
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from eqrestore_lightning import ClassifierModule, RestorerModule, TranslationEstimator
from eqrestore_lightning.training import load_classifier
from eqrestore_lightning.weights import bundled_weights, load_estimator, save_estimator
from eqrestore_lightning.weights._bundled import _FOLDER

NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "e.safetensors"
    save_estimator(TranslationEstimator(1, (6, 7), **NETWORK), path, metadata={"made by": "a test"})
    return path


def _checkpoint(module, path):
    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=path.parent,
    )
    batch = torch.rand(4, 1, 8, 8)
    data = [(x, 0) for x in batch]
    trainer.fit(module, DataLoader(data, batch_size=4))
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_no_flipped_bit_goes_unnoticed(saved, step):
    content = saved.read_bytes()
    estimator = load_estimator(saved)
    for bit in range(0, 8 * len(content), step):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(damaged)
        try:
            loaded = load_estimator(saved)
        except ValueError:
            continue
        assert loaded.config == estimator.config  # a blank of the header, for instance
        for name, value in estimator.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)


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


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*litlogger",
    "ignore:.*log_every_n_steps", "ignore:.*val_dataloader", "ignore:.*`max_epochs` was not set",
)  # fmt: skip
def test_checkpoints_hold_a_digest_that_is_verified(tmp_path):
    module = RestorerModule(TranslationEstimator(1, (8, 8), **NETWORK))
    path = _checkpoint(module, tmp_path / "restorer.ckpt")
    load_estimator(path)
    RestorerModule.load_from_checkpoint(path, weights_only=True)
    classifier = ClassifierModule(1, 2, architecture="small_cnn")
    other = _checkpoint(classifier, tmp_path / "classifier.ckpt")
    load_classifier(str(other))
    for file, load in (
        (path, lambda: load_estimator(path)),
        (path, lambda: RestorerModule.load_from_checkpoint(path, weights_only=True)),
        (other, lambda: load_classifier(str(other))),
    ):
        checkpoint = torch.load(file, weights_only=True)
        next(iter(checkpoint["state_dict"].values())).flatten()[0] += 1e-3
        torch.save(checkpoint, file)
        with pytest.raises(ValueError, match=r"the file is damaged, was changed, or"):
            load()


def test_index_is_json_with_a_digest_for_each():
    index = json.loads((_FOLDER / "index.json").read_text(encoding="utf-8"))
    assert all(len(entry["digest"]) == 64 for entry in index.values())
