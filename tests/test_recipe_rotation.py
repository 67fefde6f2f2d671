"""The recipes for rotations, at the size of a test."""

import json
import sys
from pathlib import Path

import pytest
import torch
from wandb_offline import read_history

from eqrestore_lightning import (
    DigitsDataModule,
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
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
    size, polar = (1, (32, 32)), {"num_radii": 4, "num_angles": 12, **NETWORK}
    trained = recipe.Trained(
        classifier=classifier,
        augmented=classifier,
        rotation=RotationEstimator(*size, **polar),
        both=RotoTranslationEstimator(*size, translation=NETWORK, rotation=polar),
        quarters=QuarterTurnEstimator(*size, shifts=False, **NETWORK),
        seconds={"rotation": 12.0, "both": 17.0},
    )
    images = data.images[:6]
    return recipe.Judge(trained, images, data.labels[:6], images.float() / 255, 0)


def test_the_report_prints_draws_logs_and_saves_everything(recipe, judge, tmp_path, capsys):
    from _recipe import Recipe

    run = Recipe("rotated_mnist", tmp_path, command="run recipes/rotated_mnist.py", seed=0)
    recipe.report(run, judge, bundle=False)
    run.close()
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for title in run.tables:
        assert f"\n{title}\n\n|" in printed
    assert len(results["accuracy against angle"]) == 24
    assert [row["wrong"] for row in results["exact"]] == [0, 0, 0, 0]
    assert [row["of"] for row in results["exact"]] == [72, 6, 6, 6]
    notes = results["weights mnist-roto-translation"]
    assert notes["recipe"] == "recipes/rotated_mnist.py"
    assert notes["training_seconds"] == 17
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
    assert pictures == {"accuracy", "turned", "shifted"}


def test_the_speed_is_that_of_the_bundled_weights(recipe, capsys):
    import rotation_speed

    rotation_speed.main(images=20, batch_size=8, repeats=1)
    printed = capsys.readouterr().out
    for name in ("mnist-rotation", "mnist-roto-translation"):
        (line,) = [line for line in printed.splitlines() if line.startswith(f"| {name} |")]
        rate, *shares = (float(c.replace(",", "")) for c in line.strip("| ").split(" | ")[1:4])
        assert rate > 0
        assert all(0 < share < 100 for share in shares)


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


@pytest.mark.parametrize("name", ["mass_direction", "principal_axis", "gradient_orientation"])
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
