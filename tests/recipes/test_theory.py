"""The recipes of the theory, at small size."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from wandb_offline import read_history

from eqrestore_lightning import (
    ClassifierModule,
    DigitsDataModule,
    MNISTDataModule,
    RestoreTransform,
)
from eqrestore_lightning.classifiers import build_classifier


@pytest.mark.slow
def test_equivariance_goes_all_its_way(load, few_digits, tmp_path, capsys, monkeypatch):
    recipe = load("equivariance")
    monkeypatch.setattr(recipe, "MNISTDataModule", few_digits)
    recipe.main(output=tmp_path, epochs=1, num_images=20, num_frames=4)
    assert capsys.readouterr().out.count("Logging to W&B offline") == 1
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["network"] for row in results["equivariance"]] == list(recipe.NETWORKS)
    with Image.open(tmp_path / "equivariance.gif") as animation:
        frames = []
        for number in range(animation.n_frames):
            animation.seek(number)
            frames.append(animation.convert("RGB").tobytes())
    assert len(frames) == len(set(frames)) == 4
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert len(read_history(file)["lenet-train/loss"]) == 1
    assert list(file.parent.glob("files/media/videos/*.gif"))
    assert list(file.parent.glob("files/media/table/tables/*.json"))


def test_equivariance_tells_who_follows_the_digit(load):
    recipe = load("equivariance")
    digits = DigitsDataModule().dataset("test")
    few = type(digits)(digits.images[:8], digits.labels[:8])
    canvas = recipe.canvases(few.images[:2].float() / 255)
    lenet, circular, dense = (
        recipe.measure(ClassifierModule(1, 10, architecture=name), few, canvas, seed=0)
        for name in ("lenet", "circular", "perceptron")
    )
    assert lenet["parameters up to the map"] == 520 + 20_040 + 40_040 + 5_005
    assert dense["parameters up to the map"] == 38**4 + 38**2
    assert lenet["equivariance error, largest"] < 1e-5
    assert circular["equivariance error, largest"] < 1e-5
    assert circular["accuracy, %"] == circular["accuracy, shifts up to 5, %"]
    assert dense["equivariance error, largest"] > 0.5


def test_the_colors_move_with_the_digit(load, made_mnist):
    recipe = load("equivariance")
    images = MNISTDataModule(made_mnist).dataset("test").images[:8]
    canvas = recipe.canvases(images.float() / 255)
    inside = (slice(6, -6), slice(6, -6))
    kept = {}
    for name, architecture in recipe.NETWORKS.items():
        paint = recipe.Painter(build_classifier(architecture, 1, 10).features, canvas)
        still, moved = paint(canvas[:1]), paint(canvas[:1].roll((4, -5), (2, 3)))
        assert len(np.unique(still)) > 3  # there is something to see
        expected = np.roll(still, (4, -5), (0, 1))
        kept[name] = (moved[inside] == expected[inside]).mean()
    assert kept["LeNet, no pooling"] == kept["circular convolutions"] == 1
    assert kept["multi-layer perceptron"] < 0.7


def test_constructed_makes_no_error(load, made_mnist, tmp_path):
    load("constructed").main(
        made_mnist, num_images=20, num_compared=100, num_shifts=40, output=tmp_path
    )
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    (compared,), (made,), (restored,) = (
        results[name] for name in ("aperiodic", "constructed", "restored")
    )
    assert (compared["images"], compared["shifts of others or of themselves"]) == (100, 0)
    assert made["images"] == 20
    assert (restored["shifted images"], restored["restored to another image"]) == (800, 0)
    image = MNISTDataModule(made_mnist).dataset("train").images[7]
    restore = RestoreTransform(tmp_path / "constructed.safetensors")
    assert torch.equal(restore(image.roll((-9, 14), (1, 2))), image)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TF32")
def test_invariance_counts_every_shift(load, made_mnist, tmp_path):
    options = {"weights": "digits", "num_images": 2, "num_other_images": 1}
    load("invariance").main(made_mnist, **options, output=tmp_path)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    exact, *others = results["restored images that differ"]
    assert (exact["pairs"], exact["differ"]) == (2048, 0)
    assert {row["pairs"] for row in others} == {1024}


def test_invariance_counts_images_that_differ(load):
    recipe = load("invariance")
    images = torch.rand(2, 1, 4, 5)
    row = recipe.count("nothing", images, lambda x: x, 1)
    assert (row["pairs"], row["differ"]) == (40, 38)
    digits = DigitsDataModule().dataset("test").images[:5]
    exact = RestoreTransform("digits")(digits)
    assert torch.equal(recipe.plain("digits", "fft")(digits), exact)
    with pytest.raises(TypeError, match="weights for translations, but got a RotationEstimator"):
        recipe.plain("mnist-rotation", "fft")
