"""The recipes for rotations, at the size of a test."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from wandb_offline import read_history

from eqrestore_lightning import (
    DigitsDataModule,
    QuarterTurnEstimator,
    RestorerModule,
    RestoreTransform,
    RotationEstimator,
    TranslationEstimator,
    load_estimator,
    rotate,
)
from eqrestore_lightning.classifiers import small_cnn
from eqrestore_lightning.functional import angle_error

RECIPES = Path(__file__).parent.parent / "recipes"
NETWORK = {"hidden_channels": [3], "kernel_size": ["full", 1], "bias": True}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*litlogger"
)


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.setenv("WANDB_MODE", "offline")
    import rotated_mnist

    yield rotated_mnist
    for name in [name for name, module in sys.modules.items() if _is_recipe(module)]:
        del sys.modules[name]


def _is_recipe(module):
    return str(getattr(module, "__file__", None) or "").startswith(str(RECIPES))


@pytest.fixture
def judge(recipe):
    data = DigitsDataModule().dataset("test")
    classifier = small_cnn(1, 10).eval()
    trained = recipe.Trained(
        classifier,
        classifier,
        RotationEstimator(1, (32, 32), num_radii=4, num_angles=24, **NETWORK),
        TranslationEstimator(1, (32, 32), **NETWORK),
        QuarterTurnEstimator(1, (32, 32), shifts=False, **NETWORK),
        12.0,
    )
    images = data.images[:12]
    return recipe.Judge(trained, images, data.labels[:12], images.float() / 255, 0)


def test_the_report_prints_draws_logs_and_saves_everything(recipe, judge, tmp_path, capsys):
    import wandb

    logger = recipe.wandb_logger("rotated_mnist", tmp_path, {"seed": 0})
    recipe.report(judge, logger, tmp_path, "command", bundle=False)
    wandb.finish()
    printed = capsys.readouterr().out
    written = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert written.strip() in printed
    assert "0 of 288 estimates do not follow" in printed
    assert "of 12 images 0 are restored differently in any bit by the estimator" in printed
    lines = [line for line in written.splitlines() if re.match(r"\| \d+ \| \d+\.\d\d \|", line)]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert len(lines) >= 24
    assert len(results["rows"]["restored"]) == 24
    assert results["quarter_turn_differences"] == results["grid_errors"] == 0
    x = judge.images[:3]
    rotation = RestoreTransform(tmp_path / "mnist-rotation.safetensors")
    assert torch.equal(rotation(x), judge.restore(x))
    both = load_estimator(tmp_path / "mnist-roto-translation.safetensors")
    assert both.element_names == ("down", "right", "angle")
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = read_history(file)
    assert history["angle/degrees"] == [str(angle) for angle in range(0, 360, 15)]
    assert len(history["angle/restored"]) == 24
    pictures = {path.name.split("_")[0] for path in file.parent.glob("files/media/images/*.png")}
    assert pictures == {"accuracy", "turned"}
    (table,) = file.parent.glob("files/media/table/*.json")
    assert len(json.loads(table.read_text(encoding="utf-8"))["data"]) == 24


def test_what_was_trained_is_written_and_read_again(recipe, tmp_path):
    from _rotation import fit

    logger = recipe.wandb_logger("x", tmp_path, {"seed": 0})
    options = {"path": tmp_path / "e.ckpt", "logger": logger, "precision": "32-true"}
    modules = [
        RestorerModule(RotationEstimator(1, (32, 32), num_radii=4, num_angles=24, **NETWORK))
        for _ in range(2)
    ]
    seconds = fit(modules[0], DigitsDataModule(), 1, reuse=False, **options)
    again = fit(modules[1], DigitsDataModule(), 1, reuse=True, **options)
    assert again == round(seconds, 1)
    for name, value in modules[0].state_dict().items():
        assert torch.equal(modules[1].state_dict()[name], value)
    import wandb

    wandb.finish()


def test_training_images_are_turned_and_others_are_not(recipe):
    from _rotation import Turned

    class _TurnedDigits(Turned, DigitsDataModule):
        pass

    class _Trainer:
        training, world_size, global_rank = True, 1, 0
        fit_loop = type("Loop", (), {"total_batch_idx": 3})

    data = _TurnedDigits()
    batch = DigitsDataModule().dataset("test")[torch.arange(8)]
    assert data.on_after_batch_transfer(batch, 0) is batch
    data.trainer = _Trainer()
    images, labels = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(labels, batch[1])
    assert not torch.equal(images, batch[0])
    assert torch.equal(data.on_after_batch_transfer(batch, 0)[0], images)


@pytest.mark.parametrize("name", ["principal_axis", "gradient_orientation"])
def test_untrained_ways_turn_images_back(recipe, name):
    import _rotation_baselines

    angle = getattr(_rotation_baselines, name)
    images = DigitsDataModule().dataset("test").images[:60].float() / 255
    turned = rotate(images, torch.full((60,), 40.0))
    assert angle_error(angle(turned), angle(images) + 40).median() < 3
    canonical = _rotation_baselines.Canonical(angle, images)
    assert (
        angle_error(angle(canonical(turned)), torch.tensor(canonical.usual).expand(60)).median() < 3
    )
