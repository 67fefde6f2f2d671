"""Stages of recipes: finished ones are reused, interrupted ones go on, others are refused."""

import importlib
from pathlib import Path

import lightning
import pytest
import torch
import wandb

from eqrestore_lightning import RestorerModule, TranslationEstimator
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:.*exists and is not empty",
    "ignore:.*unclosed",
)


class _Spots(InMemoryDataModule):
    in_channels, num_classes, spatial_size = 1, 1, (8, 8)

    def load(self):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 9, (64, 1, 8, 8), generator=generator).to(torch.uint8)
        images[:, :, 2, 3] = 250
        part = ImageTensors(images, torch.zeros(64).long())
        return {"train": part, "val": part, "test": part}


class _Stopped(RestorerModule):
    """Is interrupted at the beginning of an epoch."""

    stop_at: int | None = None

    def on_train_epoch_start(self):
        if self.current_epoch == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    monkeypatch.setenv("WANDB_MODE", "offline")
    made = importlib.import_module("_recipe").Recipe
    return lambda output: made("spots", output, command="python recipes/spots.py", seed=0)


def _fit(recipe, output, *, epochs=4):
    lightning.seed_everything(0, verbose=False)
    estimator = TranslationEstimator(1, (8, 8), kernel_size=3, hidden_channels=[2], bias=True)
    module = _Stopped(estimator)
    try:
        recipe(output).fit("stage", module, _Spots(batch_size=16), epochs=epochs)
    finally:
        wandb.finish()
    return module


def test_an_interrupted_stage_goes_on_and_comes_to_the_same(recipe, tmp_path, monkeypatch, capsys):
    whole = _fit(recipe, tmp_path / "whole")
    monkeypatch.setattr(_Stopped, "stop_at", 2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _fit(recipe, tmp_path / "parts")
    folder = tmp_path / "parts" / "stage"
    assert not (folder / "stage.ckpt").exists()
    assert torch.load(folder / "interrupted.ckpt", weights_only=True)["epoch"] == 1
    monkeypatch.setattr(_Stopped, "stop_at", 1)  # it does not begin there again
    resumed = _fit(recipe, tmp_path / "parts")
    assert "Going on from" in capsys.readouterr().out
    monkeypatch.setattr(_Stopped, "stop_at", 0)  # nor does it train at all
    reused = _fit(recipe, tmp_path / "parts")
    assert "Reusing" in capsys.readouterr().out
    assert not (folder / "interrupted.ckpt").exists()
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
        assert torch.equal(reused.state_dict()[name], value)


def test_a_stage_trained_otherwise_is_refused(recipe, tmp_path):
    _fit(recipe, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="to hold nothing or this very stage"):
        _fit(recipe, tmp_path, epochs=2)
