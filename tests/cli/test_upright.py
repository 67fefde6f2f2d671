"""The command `eqrestore upright`."""

import csv

import PIL.Image
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import QuarterTurnEstimator, load_estimator, save_estimator
from eqrestore_lightning.data import ORIENTATION, read_image
from eqrestore_lightning.nn import UprightEstimator, register_scorer
from eqrestore_lightning.nn._scorers import _SCORERS


class BrighterSide(nn.Module):
    """Scores turns by which side is the brighter one: upright is bright above."""

    def __init__(self, in_channels, num_scores):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(200.0))

    def forward(self, x):
        mass = x.mean(1)
        down = torch.linspace(-1, 1, mass.shape[1])
        right = torch.linspace(-1, 1, mass.shape[2])
        below = (mass.mean(2) * down).mean(1)
        beside = (mass.mean(1) * right).mean(1)
        return self.sharpness * torch.stack([-below, -beside, below, beside], 1)


@pytest.fixture
def weights(tmp_path):
    register_scorer(BrighterSide)
    path = tmp_path / "bright.safetensors"
    save_estimator(UprightEstimator(3, scorer="BrighterSide"), path)
    yield path
    del _SCORERS["BrighterSide"]


def _photograph(height=48, width=64, contrast=1.0):
    ramp = torch.linspace(220, 20, height).reshape(1, height, 1).expand(3, height, width)
    ramp = 120 + contrast * (ramp - 120)
    ramp = ramp + torch.linspace(0, 30 * contrast, width)  # no two turns look alike
    return (ramp + torch.randint(0, 9, (3, height, width))).clamp(0, 255).byte()


def _turned(image, quarters):
    return TF.to_pil_image(torch.rot90(image, quarters, (1, 2)))


@pytest.fixture
def folder(tmp_path):
    """Photographs of several formats: upright, turned, turned by EXIF, doubtful."""
    folder = tmp_path / "photographs"
    (folder / "deeper").mkdir(parents=True)
    image = _photograph()
    _turned(image, 0).save(folder / "upright.jpg", quality=95)
    _turned(image, 1).save(folder / "left.jpg", quality=95)
    _turned(image, 2).save(folder / "deeper" / "head.png")
    _turned(image, 3).save(folder / "right.webp", lossless=True)
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6  # shown turned clockwise
    _turned(image, 1).save(folder / "by exif.jpg", exif=exif)
    _turned(image, 2).save(folder / "wrong exif.jpg", exif=exif)
    flat = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    _turned(torch.cat([flat, flat.flip(1)], 1), 0).save(folder / "noise.png")
    return folder


def _rows(output):
    with (output / "turns.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_photographs_are_turned_upright_without_loss(folder, weights, tmp_path, run):
    output = tmp_path / "upright"
    told = run("upright", folder, output, f"--weights={weights}", "--prior=0.5")
    assert told.startswith(f"7 photographs into {output}: 4 turned upright, ")
    rows = _rows(output)
    expected = {"left.jpg": 1, "deeper/head.png": 2, "right.webp": 3, "wrong exif.jpg": 1}
    for name, quarters in expected.items():
        before, after = read_image(folder / name), read_image(output / name)
        assert torch.equal(after, torch.rot90(before, -quarters, (1, 2)))
        assert rows[name]["quarters"] == str(quarters)
        assert rows[name]["decision"] == "turned"
        assert rows[name]["done"] == ("EXIF orientation" if name.endswith("jpg") else "pixels")
    for name in ("upright.jpg", "by exif.jpg", "noise.png"):
        assert (output / name).read_bytes() == (folder / name).read_bytes()
    assert rows["by exif.jpg"]["decision"] == rows["upright.jpg"]["decision"] == "upright"
    assert not list(output.rglob("*.part"))


def test_doubtful_photographs_are_left_and_shown(folder, weights, tmp_path, run):
    output = tmp_path / "upright"
    told = run("upright", folder, output, f"--weights={weights}", "--min_margin=1e9")
    assert "turned upright" not in told
    assert "doubtful and left as they are (see doubtful.png)" in told
    rows = _rows(output)
    assert {name for name, row in rows.items() if row["decision"] == "doubtful"} >= {"left.jpg"}
    for name in rows:
        assert (output / name).read_bytes() == (folder / name).read_bytes()
    assert read_image(output / "doubtful.png").shape[2] > 600


def test_a_strong_prior_turns_none(folder, weights, tmp_path, run):
    estimator = load_estimator(weights)
    estimator.scale_scores(0.1)  # less sure
    save_estimator(estimator, weights)
    for prior, some in ((0.5, True), (1 - 1e-12, False)):
        options = [f"--weights={weights}", f"--prior={prior}", "--min_margin=0"]
        told = run("upright", folder, tmp_path / str(some), *options)
        assert ("turned upright" in told) == some


def test_pixels_of_jpeg_files_can_be_turned(folder, weights, tmp_path, run):
    output = tmp_path / "upright"
    run("upright", folder, output, f"--weights={weights}", "--prior=0.5", "--pixels=true")
    for name, quarters in {"left.jpg": 1, "wrong exif.jpg": 1}.items():
        expected = torch.rot90(read_image(folder / name), -quarters, (1, 2)).float()
        assert (read_image(output / name).float() - expected).abs().mean() < 4
        with PIL.Image.open(output / name) as picture:
            assert picture.getexif().get(ORIENTATION, 1) == 1
    assert _rows(output)["left.jpg"]["done"] == "pixels"


def test_bad_files_stop_before_anything_is_written_or_are_listed(
    folder, weights, tmp_path, run, fails
):
    (folder / "bad.jpg").write_bytes((folder / "left.jpg").read_bytes()[:300])
    output = tmp_path / "upright"
    message = fails("upright", folder, output, f"--weights={weights}")
    assert f"Expected {folder}/bad.jpg to be a readable image" in message
    assert not output.exists()
    told = run("upright", folder, output, f"--weights={weights}", "--skip_bad=true")
    assert "1 that could not be read, and are missing there (see turns.csv)" in told
    assert not (output / "bad.jpg").exists()
    assert _rows(output)["bad.jpg"]["decision"] == "unreadable"
    message = fails("upright", folder, output, f"--weights={weights}")
    assert message == f"eqrestore: Expected `output` to be a new or empty folder, but got {output}."


def test_other_weights_are_refused(folder, tmp_path, fails):
    path = tmp_path / "other.safetensors"
    save_estimator(QuarterTurnEstimator(3, (32, 32), shifts=False, kernel_size=3), path)
    message = fails("upright", folder, tmp_path / "out", f"--weights={path}")
    assert "Expected weights that find quarter turns of images of any size" in message
