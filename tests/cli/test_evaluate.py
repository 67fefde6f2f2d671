"""The command `eqrestore evaluate`."""

import csv

import PIL.Image
import pytest
from fuzz.tools import save_checkpoint

from eqrestore_lightning import (
    ClassifierModule,
    CopiesEstimator,
    RotationEstimator,
    save_estimator,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
_BRIGHT = """
import torch

class Bright(torch.nn.Module):
    def forward(self, x):
        return torch.eye(10)[(9 * x.mean((1, 2, 3))).long()]
"""


@pytest.fixture
def bright(tmp_path, monkeypatch):
    """Write a classifier that tells images by their brightness; return its name."""
    (tmp_path / "networks_of_evaluate.py").write_text(_BRIGHT)
    monkeypatch.chdir(tmp_path)
    return "networks_of_evaluate:Bright"


@pytest.fixture
def rotation(tmp_path):
    weights = tmp_path / "rotation.safetensors"
    save_estimator(RotationEstimator(1, (32, 32), num_angles=24, kernel_size=3), weights)
    return weights


def test_takes_checkpoints_and_names(digits, tmp_path, bright, run):
    for classifier in (save_checkpoint(ClassifierModule(1, 10), tmp_path / "c.ckpt"), bright):
        printed = run("evaluate", classifier, digits, "digits", "--grayscale=true", "--max_shift=2")
        assert "accuracy, restored" in printed
        first, moved, unmoved, *_ = printed[printed.index("60 images") :].splitlines()
        assert first.startswith("60 images, accuracy without → with the restorer (95 %")
        assert moved.startswith("moved, largest circular shift (pixels) 2: ")
        assert unmoved.startswith("unmoved: ")


def test_crops_stand_beside_circular_shifts_of_images_of_any_size(digits, bright, run):
    printed = run("evaluate", bright, digits, "photo", "--max-shift=2", "--grayscale=no")
    assert "moved, largest circular shift (pixels) 2: " in printed
    assert "moved, largest shift of the camera (pixels) 2: " in printed


def test_labels_name_classes_of_a_classifier_that_knows_more(digits, tmp_path, bright, run, fails):
    command = ["evaluate", bright, digits, "digits", "--grayscale", "--max_shift=1"]
    printed = run(*command, "--labels", str(list(range(10))))
    assert printed == run(*command)
    message = fails(*command, "--labels", "[1, 2]")
    assert "Expected `--labels` to name a class for each of the 10 folders in" in message


@pytest.mark.parametrize("kind", ["circular", "zeros"])
def test_kinds_of_shifts(kind, digits, bright, run):
    options = ["--grayscale=true", "--max_shift=1", f"--kind={kind}"]
    assert "no restorer" in run("evaluate", bright, digits, "digits", *options)


def test_crops(digits, bright, tmp_path, run, fails):
    options = ["--grayscale=true", "--max_shift=2", "--kind=crop"]
    message = fails("evaluate", bright, digits, "digits", *options)
    assert "32" in message  # the window is smaller than the images the weights were made for
    printed = run("evaluate", bright, digits, "digits", *options, "--image_size=36")
    assert "largest shift of the camera (pixels)" in printed


def test_rotations(digits, bright, rotation, run, fails):
    options = ["evaluate", bright, digits, rotation, "--grayscale=true"]
    printed = run(*options, "--kind=rotation")
    assert "angle (degrees)" in printed
    assert "345" in printed
    printed = run(*options, "--kind=rotation", "--max_shift=2")
    assert "rotated, then shifted circularly by up to 2 pixels" in printed
    assert "to find only shifts, but it finds (angle)" in fails(*options)


def test_quarter_turns_and_a_prior(digits, bright, tmp_path, run):
    weights = tmp_path / "upright.safetensors"
    save_estimator(CopiesEstimator(1, scorer_options={"channels": [4]}), weights)
    options = ["evaluate", bright, digits, weights, "--grayscale=true", "--kind=rotation"]
    printed = run(*options)
    assert "| 270 " in printed
    assert "any" not in printed
    assert "| 270 " in run(*options, "--prior=0.9")


def test_user_errors_are_one_line(digits, bright, fails):
    options = ["evaluate", bright, digits, "digits", "--grayscale=true"]
    message = fails(*options, "--max_shift=-1")
    assert "Expected `--max_shift` to be at least 0, but got -1." in message
    assert "Expected `--image-size` to be at least 1" in fails(*options, "--image-size=0")
    for path in list(digits.rglob("*.png")):
        path.rename(digits / path.name)
    assert "Expected a folder for each class in" in fails(*options)


@pytest.mark.filterwarnings("ignore:.*unclosed", "ignore:.*litlogger")
def test_table_chart_and_log_are_written_on_request(digits, bright, tmp_path, run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    output = tmp_path / "out" / "shifts"
    options = ["--grayscale=true", "--max_shift=2", "--output", output, "--wandb_project=mine"]
    printed = run("evaluate", bright, digits, "digits", *options)
    assert (output / "table.md").read_text(encoding="utf-8").strip() in printed
    with (output / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["restorer"], row["motion"]) for row in rows] == [
        (name, shift) for shift in "012" for name in ("no restorer", "restored")
    ]
    assert {float(row["consistency"]) for row in rows if row["restorer"] == "restored"} == {1.0}
    with PIL.Image.open(output / "accuracy.png") as picture:
        assert picture.width > 600
    (logged,) = (output / "wandb").glob("offline-run-*/run-*.wandb")
    assert logged.stat().st_size > 0
