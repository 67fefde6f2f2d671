"""`python -m eqrestore_lightning.training`: every data module and preset by name, and YAML."""

import sys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import load_estimator
from eqrestore_lightning.motions import Shift
from eqrestore_lightning.nn import list_presets
from eqrestore_lightning.training.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's jsonargparse


@pytest.fixture
def command(monkeypatch):
    """Run the command with arguments, and return its `LightningCLI`."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
        return main()

    return run


def _model(preset, in_channels, size):
    return [
        "--model=RestorerModule",
        "--model.estimator=eqrestore_lightning.build_preset",
        f"--model.estimator.name={preset}",
        f"--model.estimator.in_channels={in_channels}",
        f"--model.estimator.spatial_size={list(size)}",
    ]


def _trainer(folder, *, steps=1):
    return [
        f"--trainer.max_steps={steps}",
        f"--trainer.default_root_dir={folder}",
        "--trainer.limit_val_batches=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        image = torch.randint(0, 256, (3, 33, 40), dtype=torch.uint8)
        TF.to_pil_image(image).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("preset", list_presets())
def test_every_preset_is_trained(preset, images, tmp_path, command):
    data = ["--data=ImageFolderDataModule", f"--data.root={images}", "--data.image_size=32"]
    options = [*data, "--data.batch_size=4", "--data.sources=file"]
    cli = command("fit", *_model(preset, 3, (32, 32)), *options, *_trainer(tmp_path))
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    trained = load_estimator(checkpoint)
    assert type(trained) is type(cli.model.estimator)
    assert cli.trainer.global_step == 1


def _signals(folder):
    np.save(folder / "signals.npy", np.random.default_rng(0).normal(size=(40, 24)))
    return [f"--data.root={folder / 'signals.npy'}"]


@pytest.mark.parametrize(
    ("data", "arguments", "in_channels", "size"),
    [
        ("DigitsDataModule", lambda folder: [], 1, (32, 32)),
        ("SignalDataModule", _signals, 1, (24,)),
        (
            "PhotoCropDataModule",
            lambda folder: [f"--data.root={folder / 'images'}", "--data.crop_sizes=[24]"],
            3,
            (24, 24),
        ),
    ],
)
def test_every_data_module_is_read(data, arguments, in_channels, size, images, tmp_path, command):
    options = [f"--data={data}", *arguments(tmp_path), "--data.batch_size=4"]
    cli = command("fit", *_model("border", in_channels, size), *options, *_trainer(tmp_path))
    assert type(cli.datamodule).__name__ == data
    assert cli.trainer.global_step == 1


def test_settings_are_saved_and_read_again(tmp_path, command):
    motion = ["--model.motion=Shift", "--model.motion.max_shift=3", "--model.motion.fill=zeros"]
    given = ["--data=DigitsDataModule", *_trainer(tmp_path / "first", steps=3)]
    first = command("fit", *_model("centered", 1, (32, 32)), *motion, *given)
    assert first.model.motion == Shift(max_shift=3, fill="zeros")
    (config,) = (tmp_path / "first").rglob("config.yaml")
    folder = f"--trainer.default_root_dir={tmp_path / 'second'}"
    again = command("fit", f"--config={config}", folder)
    expected = first.model.estimator.state_dict()
    for name, value in again.model.estimator.state_dict().items():
        assert torch.equal(value, expected[name])


def test_an_unknown_class_is_named(capsys, command):
    with pytest.raises(SystemExit) as status:
        command("fit", *_model("border", 1, (32, 32)), "--data=Digits")
    assert status.value.code == 2
    assert "Digits" in capsys.readouterr().err
