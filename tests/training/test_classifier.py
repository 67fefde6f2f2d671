import sys

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from eqrestore_lightning import ClassifierModule, Shift, circular_shift
from eqrestore_lightning.training._classifier import load_classifier


def _spots(count=64):
    """Images whose class is the side that a spot is on."""
    labels = torch.arange(count) % 2
    images = torch.zeros(count, 1, 16, 16)
    images[torch.arange(count), 0, 5 + torch.arange(count) % 3, 4 + 8 * labels] = 1.0
    return images, labels


def test_it_learns_and_comes_back_from_a_checkpoint(tmp_path, build_trainer):
    images, labels = _spots()
    module = ClassifierModule(1, 2, architecture="small_cnn", learning_rate=1e-2)
    trainer = build_trainer(max_epochs=8)
    trainer.fit(module, DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True))
    trainer.save_checkpoint(tmp_path / "classifier.ckpt")
    assert (module.eval()(images).argmax(1) == labels).all()
    again = ClassifierModule.load_from_checkpoint(tmp_path / "classifier.ckpt").eval()
    assert torch.equal(again(images), module(images))


def test_training_images_are_shifted_if_asked_to(monkeypatch):
    images, labels = _spots()
    seen = []
    for motion in (None, Shift(max_shift=3), Shift(max_shift=3).config):
        module = ClassifierModule(1, 2, motion=motion, seed=5)
        monkeypatch.setattr(module, "forward", lambda x: seen.append(x) or torch.rand(len(x), 2))
        module.training_step((images, labels), 0)
    unshifted, shifted, again = seen
    assert torch.equal(unshifted, images)
    assert torch.equal(shifted, again)
    places = torch.cartesian_prod(torch.arange(-3, 4), torch.arange(-3, 4))
    for image, moved in zip(images, shifted, strict=True):
        views = circular_shift(image.expand(49, 1, 16, 16), places)
        assert (views == moved).flatten(1).all(1).any()
    assert not torch.equal(shifted, images)


def test_architectures_are_part_of_the_checkpoint():
    module = ClassifierModule(3, 10, architecture="vgg16", stem="original", width=0.125)
    assert dict(module.hparams)["architecture"] == "vgg16"
    assert module(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("none.ckpt", FileNotFoundError, "Expected a checkpoint, but found none at none.ckpt"),
        (
            "resnet",
            ValueError,
            "`source` to end in .ckpt or to be package.module:name, but got 'resnet'",
        ),
        ("no_such_module:x", ImportError, "No module named 'no_such_module'"),
        (
            "math:nothing",
            ImportError,
            "Expected math:nothing to exist, but got: module 'math'",
        ),
        ("time:time", TypeError, "Expected time:time to return a torch.nn.Module, but got float"),
    ],
)
def test_classifiers_that_cannot_be_loaded(source, error, message):
    with pytest.raises(error) as raised:
        load_classifier(source)
    assert message in str(raised.value)


def test_modules_of_the_working_directory_are_classifiers(tmp_path, monkeypatch):
    (tmp_path / "of_mine.py").write_text("import torch\n\nnet = torch.nn.Linear(2, 3)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_classifier("of_mine:net").out_features == 3
    assert sys.path == before


def test_checkpoints_of_other_modules_are_no_classifiers(tmp_path):
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "c.ckpt")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for path in tmp_path.iterdir():
        with pytest.raises(
            ValueError, match=r"Expected .*ckpt to (be a checkpoint|hold the digest)"
        ):
            load_classifier(str(path))
