"""The recipes for rotations, at the size of a test."""

import json

import pytest
import torch
from wandb_offline import read_history

from eqrestore_lightning import DigitsDataModule, RestoreTransform, load_estimator
from eqrestore_lightning.evaluation._results import NO_RESTORER

LAYERS = {"hidden_channels": [3], "kernel_size": [3, 1], "dilation": 1, "skip": False}
POLAR = {"num_radii": 4, "num_angles": 12, "max_radius": 14.5, **LAYERS}
EXACT = (
    "polar images, all grid angles",
    "four quarter turns, RotationEstimator",
    "turned, two shifts, RotoTranslationEstimator",
)
FULL = {**LAYERS, "kernel_size": ["full", 1], "separable": True}


@pytest.fixture
def recipe(load, few_digits, monkeypatch):
    made = load("rotated_mnist")
    networks = {
        "rotation": {"preset": "rotation", **POLAR},
        "both": {"preset": "roto-translation", "translation": FULL, **POLAR},
    }
    monkeypatch.setattr(made, "NETWORKS", networks)
    monkeypatch.setattr(made, "CenteredMNIST", few_digits)
    return made


def test_turned_mnist_goes_all_its_way(recipe, tmp_path, capsys):
    epochs = {f"{name}_epochs": 1 for name in ("classifier", "restorer", "both")}
    recipe.main(output=tmp_path, num_images=2, **epochs)
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for title in results["tables"]:
        assert f"\n{title}\n\n|" in printed
    assert len(results["accuracy against angle"]) == 9 * 25  # restorers, angles and any
    counts = [(row["restored"], row["differ"]) for row in results["exact"]]
    assert counts == [(name, 0) for name in EXACT]
    (shown,) = [row for row in results["angles, turned"] if row["images"] == "all"]
    assert shown["share, %"] == 100
    assert "shift exact, %" in results["angles, turned and shifted"][0]
    notes = results["weights mnist-roto-translation"]
    accuracy = {row["restorer"]: row["accuracy"] for row in results["turned and shifted"]}
    assert notes["metrics"] == {
        "accuracy_turned_and_shifted": accuracy[NO_RESTORER],
        "accuracy_turned_and_shifted_restored": accuracy["restored"],
    }
    estimator = load_estimator(tmp_path / "mnist-roto-translation.safetensors")
    assert [field.name for field in estimator.motion.fields] == ["angle", "shift"]
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = read_history(file)
    for key in ("accuracy, restored", "consistency, no restorer", "angle_distance, restored"):
        assert len(history[f"accuracy against angle/{key}"]) == 24
    assert len(history["augmented-train/loss"]) == 1
    pictures = {
        path.name.partition(".")[0] for path in file.parent.glob("files/media/images/*.png")
    }
    assert {"accuracy", "turned"} <= pictures


def test_what_is_found_is_compared_with_what_was_drawn(recipe, load):
    spread = load("_data").spread
    images = spread(DigitsDataModule().dataset("test"), 60)
    restore = RestoreTransform("mnist-roto-translation")
    motion = restore.estimator.motion
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 10))
    found = recipe.find_all(classifier, images, restore, motion, seed=3)
    generator = torch.Generator().manual_seed(3)
    element = motion.draw(len(images), (32, 32), generator=generator)  # one batch
    each = restore.find(motion.apply(images.images.float() / 255, element))
    errors = motion.error(each.motion, element, (32, 32))
    assert torch.equal(found["angle"], errors["angle"])
    assert torch.equal(found["shift"], errors["shift"])
    assert torch.equal(found["margin"], each.margin)
    rows = recipe.angle_rows(found, {"none": found["margin"] < 0, "half": images.labels < 5})
    assert [row["images"] for row in rows] == ["all", "half"]
    digits = recipe.digit_rows(images.labels, found)
    assert [row["digit"] for row in digits] == list(range(10))
    assert digits[6]["as 6, %"] == digits[6]["classified correctly, %"]


@pytest.mark.slow
def test_quarter_turns_of_cifar10_are_trained_and_measured(load, made_cifar10, tmp_path):
    options = {"minutes": 0.03, "classifier_epochs": 1, "num_images": 10}
    load("cifar10_upright").main(made_cifar10, output=tmp_path, **options)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    tables = {"quarter turns found", "accuracy", "what a prior saves and costs", "invariance"}
    assert set(results["tables"]) == tables
    assert len(results["what a prior saves and costs"]) == 7
    assert results["invariance"] == [{"images": 20, "pairs": 60, "differ": 0}]
    names = [row["restorer"] for row in results["quarter turns found"]]
    assert names == ["restored", "rule: brighter side up", "rule: smoother side up"]
    restore = RestoreTransform(tmp_path / "cifar10-upright.safetensors")
    (field,) = restore.estimator.motion.fields
    assert field.name == "quarters"
    for value in restore.estimator.state_dict().values():
        assert torch.equal(value, value.half().to(value))
    assert (tmp_path / "turned.png").is_file()
