"""The recipes of the theory run as their users start them, at small size."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from wandb_offline import read_history

from eqrestore_lightning import MNISTDataModule, RestoreTransform

ROOT = Path(__file__).parent.parent


def _run(recipe, *arguments):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB_", "LT_", "TORCHELASTIC_"))
    }
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, f"recipes/{recipe}.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def equivariance(mnist_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("equivariance")
    arguments = [f"--data={mnist_root}", f"--output={folder}", "--epochs=1", "--batches=2"]
    return folder, _run("equivariance", *arguments, "--test_images=500", "--frames=4")


def test_equivariance_tells_who_follows_the_digit(equivariance):
    folder, printed = equivariance
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed
    rows = {row[1]: row[2:-1] for row in (re.split(r" ?\| ?", r) for r in table.splitlines()[2:])}
    parameters = {name: int(row[0]) for name, row in rows.items()}
    largest = {name: float(row[-1]) for name, row in rows.items()}
    assert parameters["LeNet, no pooling"] == 520 + 20_040 + 40_040 + 5_005
    assert parameters["multi-layer perceptron"] == 38**4 + 38**2
    assert largest["LeNet, no pooling"] < 1e-5
    assert largest["circular convolutions"] < 1e-5
    assert largest["multi-layer perceptron"] > 0.5


def test_the_animation_moves(equivariance):
    folder, _ = equivariance
    with Image.open(folder / "equivariance.gif") as animation:
        frames = []
        for number in range(animation.n_frames):
            animation.seek(number)
            frames.append(animation.convert("RGB").tobytes())
    assert len(frames) == len(set(frames)) == 4


def test_the_colours_move_with_the_digit(mnist_root, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    recipe = runpy.run_path(str(ROOT / "recipes" / "equivariance.py"))
    canvas = recipe["canvases"](MNISTDataModule(mnist_root).dataset("test").images[:8])
    inside = (slice(6, -6), slice(6, -6))
    kept = {}
    for name, build in recipe["NETWORKS"].items():
        paint = recipe["Painter"](build().features, canvas)
        still, moved = paint(canvas[:1]), paint(canvas[:1].roll((4, -5), (2, 3)))
        assert len(np.unique(still)) > 3  # there is something to see
        expected = np.roll(still, (4, -5), (0, 1))
        kept[name] = (moved[inside] == expected[inside]).mean()
    assert kept["LeNet, no pooling"] == kept["circular convolutions"] == 1
    assert kept["multi-layer perceptron"] < 0.7


def test_equivariance_logs_to_wandb(equivariance):
    folder, printed = equivariance
    assert printed.count("Logging to W&B offline") == 1
    (run,) = (folder / "wandb").glob("offline-run-*")
    (file,) = run.glob("run-*.wandb")
    history = read_history(file)
    assert len(history["LeNet, no pooling-train/loss"]) == 1
    assert list(run.glob("files/media/videos/*.gif"))
    assert list(run.glob("files/media/table/*.json"))


def test_constructed_makes_no_error(mnist_root, tmp_path):
    arguments = [f"--data={mnist_root}", f"--output={tmp_path}", "--checked=200"]
    printed = _run("constructed", *arguments, "--images=20", "--shifts=40")
    assert "200 images compared in every shift: 0 are shifts of others" in printed
    assert "Constructed from 20 images in" in printed
    assert re.search(r"800 shifted images restored in .*: 0 differ from the original\.", printed)
    image = MNISTDataModule(mnist_root).dataset("train").images[7]
    restore = RestoreTransform(tmp_path / "constructed.safetensors")
    assert torch.equal(restore(image.roll((-9, 14), (1, 2))), image)
