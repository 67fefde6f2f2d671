"""Stages are reused, resumed or refused; tables, weights and origins are kept."""

import datetime
import json
import sys

import lightning
import pytest
import torch
import wandb

from eqrestore_lightning import MNISTDataModule, RestorerModule, TranslationEstimator
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed")


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
    stop_in_step: int | None = None

    def on_train_epoch_start(self):
        if self.current_epoch == self.stop_at:
            raise KeyboardInterrupt

    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == self.stop_in_step:
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
    assert torch.load(folder / "stage.ckpt", weights_only=True)["epoch"] == 1
    first = json.loads((folder / "stage.json").read_text("utf-8"))["seconds"]
    assert first > 0
    monkeypatch.setattr(_Stopped, "stop_at", 1)  # it does not begin there again
    resumed = _fit(start, tmp_path / "parts")
    assert "Resuming from" in capsys.readouterr().out
    assert json.loads((folder / "stage.json").read_text("utf-8"))["seconds"] > first
    monkeypatch.setattr(_Stopped, "stop_at", 0)  # nor does it train at all
    reused = _fit(start, tmp_path / "parts")
    assert "Reusing" in capsys.readouterr().out
    assert [path.name for path in folder.glob("*.ckpt")] == ["stage.ckpt"]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
        assert torch.equal(reused.state_dict()[name], value)


def test_settings_of_stages_stand_side_by_side(start, tmp_path):
    run = start(tmp_path)
    for stage, rate in (("first", 0.25), ("second", 0.5)):
        module = RestorerModule(_module().estimator, learning_rate=rate)
        run.fit(stage, module, _Spots(batch_size=16), epochs=1)
    config = run.logger.experiment.config
    assert (config["first"]["learning_rate"], config["second"]["learning_rate"]) == (0.25, 0.5)
    assert config["seed"] == 0


def test_a_stage_goes_on_within_an_epoch(start, load, tmp_path, monkeypatch):
    whole = _fit(start, tmp_path / "whole", epochs=3)
    monkeypatch.setattr(load("_run"), "CHECKPOINT_EVERY", datetime.timedelta(0))
    monkeypatch.setattr(_Stopped, "stop_in_step", 6)  # of four in each epoch
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _fit(start, tmp_path / "parts", epochs=3)
    saved = torch.load(tmp_path / "parts" / "stage" / "stage.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    monkeypatch.setattr(_Stopped, "stop_in_step", None)
    resumed = _fit(start, tmp_path / "parts", epochs=3)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


@pytest.mark.filterwarnings("ignore:You defined a .validation_step.")
def test_training_for_a_time_ends_and_is_reused(start, tmp_path, capsys):
    run = start(tmp_path)
    batches = torch.utils.data.DataLoader(_Spots().dataset("train").images.float(), batch_size=8)
    batches.settings = {"kind": "spots"}
    seconds = run.fit("timed", _module(), batches, minutes=0.02, limit_val_batches=0)
    assert 1 < seconds < 30
    assert run.fit("timed", _module(), batches, minutes=0.02) == seconds
    assert "Reusing" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"'minutes': 0\.02"):
        run.fit("timed", _module(), batches, minutes=1)


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
    settings = load("_origin").stage_settings
    padded, resized = (
        settings(_module(), MNISTDataModule(made_mnist, enlarge=enlarge), 1, None, {})
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


def test_pages_are_written_when_asked_for(start, load, tmp_path, monkeypatch):
    run, module = start(tmp_path / "run"), load("_run")
    monkeypatch.setattr(sys, "argv", ["recipes/spots.py", "--publish"])
    monkeypatch.setattr(module, "ROOT", tmp_path)
    asked = []

    def main(count: int = 3) -> None:
        asked.append((count, module.Run.publish))

    monkeypatch.setattr(module.Run, "publish", False)
    module.command_line(main)
    assert asked == [(3, True)]
    run.add_table("sizes", [{"count": 7}])
    run.close()
    page = (tmp_path / "docs" / "results" / "spots.md").read_text("utf-8")
    assert page.startswith("# spots\n\nWritten by `python recipes/spots.py --publish`: ")
    assert page.endswith("## sizes\n\n| count |\n|---|\n| 7 |\n")


def test_tables_of_runs_with_the_same_settings_are_kept_together(start, tmp_path):
    for title, epochs in (("first", 1), ("second", 1), ("third", 2)):
        run = start(tmp_path, config={"epochs": epochs})
        run.add_table(title, [{"exact, %": 99.5}])
        run.close()
        tables = (tmp_path / "tables.md").read_text("utf-8")
        assert tables.count("| 99.50 |") == {"first": 1, "second": 2, "third": 1}[title]
