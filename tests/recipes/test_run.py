"""Stages are reused, resumed or refused; tables, weights and origins are kept."""

import json
import sys

import lightning
import pytest
import torch
import wandb

from eqrestore_lightning import MNISTDataModule, RestorerModule, TranslationEstimator
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:.*exists and is not empty",
    "ignore:.*unclosed",
    "ignore:.*litlogger",
)


class _Spots(InMemoryDataModule):
    in_channels, num_classes, spatial_size = 1, 1, (8, 8)
    brightness = 250

    def load(self):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 9, (64, 1, 8, 8), generator=generator).to(torch.uint8)
        images[:, :, 2, 3] = self.brightness
        part = ImageTensors(images, torch.zeros(64).long())
        return {"train": part, "val": part, "test": part}


class _DarkSpots(_Spots):
    brightness = 100


class _Stopped(RestorerModule):
    """Is interrupted at the beginning of an epoch."""

    stop_at: int | None = None

    def on_train_epoch_start(self):
        if self.current_epoch == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def start(load):
    run = load("_run").Run
    yield lambda output, **options: run("spots", output, **options)
    wandb.finish()


def _module():
    lightning.seed_everything(0, verbose=False)
    return _Stopped(TranslationEstimator(1, (8, 8), kernel_size=3, hidden_channels=[2], bias=True))


def _fit(start, output, *, epochs=4, data=None):
    module = _module()
    try:
        start(output).fit("stage", module, data or _Spots(batch_size=16), epochs=epochs)
    finally:
        wandb.finish()
    return module


def test_an_interrupted_stage_is_resumed_and_comes_to_the_same_bits(
    start, tmp_path, monkeypatch, capsys
):
    whole = _fit(start, tmp_path / "whole")
    monkeypatch.setattr(_Stopped, "stop_at", 2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _fit(start, tmp_path / "parts")
    folder = tmp_path / "parts" / "stage"
    assert not (folder / "stage.ckpt").exists()
    assert torch.load(folder / "interrupted.ckpt", weights_only=True)["epoch"] == 1
    first = json.loads((folder / "stage.json").read_text("utf-8"))["seconds"]
    assert first > 0
    monkeypatch.setattr(_Stopped, "stop_at", 1)  # it does not begin there again
    resumed = _fit(start, tmp_path / "parts")
    assert "Resuming from" in capsys.readouterr().out
    assert json.loads((folder / "stage.json").read_text("utf-8"))["seconds"] > first
    monkeypatch.setattr(_Stopped, "stop_at", 0)  # nor does it train at all
    reused = _fit(start, tmp_path / "parts")
    assert "Reusing" in capsys.readouterr().out
    assert not (folder / "interrupted.ckpt").exists()
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
        assert torch.equal(reused.state_dict()[name], value)


def test_a_stage_trained_differently_is_refused(start, tmp_path):
    _fit(start, tmp_path, epochs=1)
    message = "to be empty or to contain this very stage"
    with pytest.raises(ValueError, match=message):
        _fit(start, tmp_path, epochs=2)
    with pytest.raises(ValueError, match=message):
        _fit(start, tmp_path, epochs=1, data=_Spots(batch_size=32))
    with pytest.raises(ValueError, match=message):
        _fit(start, tmp_path, epochs=1, data=_DarkSpots(batch_size=16))
    _fit(start, tmp_path, epochs=1, data=_Spots(batch_size=16, num_workers=1))


def test_a_padded_classifier_is_not_reused_for_resized_digits(load, made_mnist):
    settings = load("_run").stage_settings
    padded, resized = (
        settings(_module(), MNISTDataModule(made_mnist, enlarge=enlarge), 1, {})
        for enlarge in ("pad", "resize")
    )
    assert padded["module"] == resized["module"]
    assert padded["data"]["enlarge"] != resized["data"]["enlarge"]
    assert padded["data"]["fingerprint"] != resized["data"]["fingerprint"]


def test_weights_carry_what_ran(start, load, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/somewhere/spots.py", "--name", "two words"])
    monkeypatch.setenv("LT_PRECISION", "bf16-mixed")
    run = start(tmp_path, config={"epochs": 1})
    module = _module()
    data = _Spots(batch_size=16)
    run.fit("stage", module, data, epochs=1)
    monkeypatch.setattr(sys, "argv", ["spots.py", "--bundle", "true"])
    run.save_weights("spots", module.estimator, stage="stage", metrics={"exact": 0.5})
    run.add_table("sizes", [{"name": "a", "count": 23_000, "error": 2e-7}])
    run.close()
    assert "| a | 23,000 | 2.0e-07 |" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    notes = results["weights spots"]
    assert notes["recipe"] == "recipes/spots.py"
    assert notes["command"] == "recipes/spots.py --bundle true"
    assert notes["training"]["command"] == "recipes/spots.py --name 'two words'"
    assert notes["training"]["launcher"] == {"LT_PRECISION": "bf16-mixed"}
    assert notes["training"]["precision"] == "32-true"
    assert notes["training"]["data"]["fingerprint"] == data.fingerprint()
    assert set(notes["versions"]) == {"eqrestore-lightning", "torch", "lightning"}
    assert notes["training_seconds"] >= 0
    assert results["sizes"] == [{"name": "a", "count": 23_000, "error": 2e-7}]


def test_tables_of_runs_with_the_same_settings_are_kept_together(start, tmp_path):
    for title, epochs in (("first", 1), ("second", 1), ("third", 2)):
        run = start(tmp_path, config={"epochs": epochs})
        run.add_table(title, [{"exact, %": 99.5}])
        run.close()
        tables = (tmp_path / "tables.md").read_text("utf-8")
        assert tables.count("| 99.50 |") == {"first": 1, "second": 2, "third": 1}[title]
