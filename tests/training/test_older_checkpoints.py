"""Checkpoints written before motions were arguments, by the commands in the comments."""

from pathlib import Path

import lightning
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from eqrestore_lightning import (
    ClassifierModule,
    RestorerModule,
    RestoreTransform,
    RotationEstimator,
    Shift,
    TranslationEstimator,
    Turn,
    load_estimator,
)
from eqrestore_lightning.training import load_classifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:.*log_every_n_steps",
    "ignore:.*ModelSummary",
    "ignore:.*litlogger",
    "ignore:.*val_dataloader",
    "ignore:.*holds no digest",
    "ignore:.*loaded checkpoint was produced with Lightning",
)
FOLDER = Path(__file__).parent / "checkpoints"
X = torch.linspace(0, 1, 128).reshape(2, 1, 8, 8)


def test_shifts():
    # RestorerModule(TranslationEstimator(1, (8, 8), hidden_channels=[2], kernel_size=3, bias=True),
    #                max_shift=2, fill="zeros", learning_rate=3e-3, seed=5)
    module = RestorerModule.load_from_checkpoint(FOLDER / "shifts.ckpt", weights_only=True)
    assert module.motion == Shift(max_shift=2, fill="zeros")
    assert isinstance(module.estimator, TranslationEstimator)
    assert (module.hparams["learning_rate"], module.hparams["seed"]) == (3e-3, 5)
    expected = torch.tensor([0.25288257, 0.26890984, 0.28362551, 0.29835933])
    assert_close(module.estimator(X).flatten()[:4], expected)
    loaded = load_estimator(FOLDER / "shifts.ckpt")
    assert torch.equal(loaded(X), module.eval().estimator(X))
    assert RestoreTransform(FOLDER / "shifts.ckpt").find(X).motion["shift"].shape == (2, 2)


def test_rotations():
    # RestorerModule(RotationEstimator(1, (8, 8), num_radii=3, num_angles=8, hidden_channels=[2],
    #                                  kernel_size=3, fill="border"), seed=6)
    module = RestorerModule.load_from_checkpoint(FOLDER / "rotations.ckpt", weights_only=True)
    assert module.motion == Turn(fill="border")
    assert isinstance(module.estimator, RotationEstimator)
    expected = torch.tensor([0.66048867, 0.48255438, 0.38290137, 0.45961571])
    assert_close(module.estimator(X).flatten()[:4], expected)
    assert torch.equal(load_estimator(FOLDER / "rotations.ckpt")(X), module.estimator(X))


def test_classifiers():
    # ClassifierModule(1, 3, architecture="vgg16", width=1 / 64, max_shift=2, seed=7)
    module = ClassifierModule.load_from_checkpoint(FOLDER / "classifier.ckpt", weights_only=True)
    assert module.motion == Shift(max_shift=2)
    x = torch.linspace(0, 1, 2048).reshape(2, 1, 32, 32)
    expected = torch.tensor([-0.10906391, -0.18427092, -0.28143772])
    assert_close(module.eval()(x)[0], expected)
    assert torch.equal(load_classifier(str(FOLDER / "classifier.ckpt")).eval()(x), module(x))


def test_training_goes_on_and_writes_what_loads_again(tmp_path):
    module = RestorerModule.load_from_checkpoint(FOLDER / "shifts.ckpt", weights_only=True)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    loader = DataLoader(torch.rand(16, 1, 8, 8), batch_size=8)
    trainer.fit(module, loader, ckpt_path=FOLDER / "shifts.ckpt", weights_only=True)
    assert trainer.current_epoch == 2
    assert trainer.global_step == 4
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    again = RestorerModule.load_from_checkpoint(tmp_path / "new.ckpt", weights_only=True)
    assert again.motion == module.motion
    assert torch.equal(again.estimator(X), module.estimator(X))


def test_a_motion_replaces_that_of_the_checkpoint():
    module = RestorerModule.load_from_checkpoint(
        FOLDER / "shifts.ckpt", motion=Shift(max_shift=1), weights_only=True
    )
    assert module.motion == Shift(max_shift=1)


def test_a_warning_says_that_they_hold_no_digest():
    with pytest.warns(
        UserWarning, match=r"shifts.ckpt holds no digest, so that damage to it would"
    ):
        load_estimator(FOLDER / "shifts.ckpt")
    with pytest.raises(ValueError, match=r"to hold the digest of its content, .* but got none"):
        load_estimator(FOLDER / "shifts.ckpt", require_digest=True)
    with pytest.warns(UserWarning, match="a RestorerModule holds no digest, so that damage to it"):
        RestorerModule.load_from_checkpoint(FOLDER / "shifts.ckpt")


@pytest.mark.parametrize("module", [RestorerModule, ClassifierModule])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut", b"\x80\x02}q\x00.", b"not a checkpoint", {"state_dict": {}}]
)
def test_files_that_are_no_checkpoints_are_refused_in_one_way(module, content, tmp_path):
    path = tmp_path / "bad.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=rf"bad\.ckpt to be a checkpoint of a {module.__name__}"):
        module.load_from_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        module.load_from_checkpoint(tmp_path / "missing.ckpt")


def test_the_machine_s_errors_pass(monkeypatch):
    def out_of_memory(*args, **options):
        raise MemoryError

    monkeypatch.setattr(torch, "load", out_of_memory)
    with pytest.raises(MemoryError):
        load_estimator(FOLDER / "shifts.ckpt")
    with pytest.raises(MemoryError):
        RestorerModule.load_from_checkpoint(FOLDER / "shifts.ckpt")


def test_memory_is_taken_for_what_a_checkpoint_holds_not_for_what_it_claims(tmp_path):
    path = tmp_path / "huge.ckpt"
    checkpoint = torch.load(FOLDER / "classifier.ckpt", weights_only=True)
    for number in (10**10, 10**7):
        checkpoint["hyper_parameters"]["num_classes"] = number
        torch.save(checkpoint, path)
        with pytest.raises(ValueError, match=r"huge\.ckpt to be a checkpoint of a ClassifierMod"):
            ClassifierModule.load_from_checkpoint(path)


def test_long_configurations_are_refused_at_once(tmp_path):
    path = tmp_path / "long.ckpt"
    checkpoint = torch.load(FOLDER / "shifts.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["estimator"]["hidden_channels"] = [1] * 10**5
    torch.save(checkpoint, path)
    for load in (load_estimator, RestorerModule.load_from_checkpoint):
        with pytest.raises(ValueError, match=r"at most 20,000 characters of JSON, but got 300,"):
            load(path)
