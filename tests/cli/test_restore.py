"""The command `eqrestore restore`."""

import csv
import os

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import (
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
    UprightEstimator,
    save_estimator,
)
from eqrestore_lightning.data import read_image


def _rows(folder):
    with (folder / "shifts.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_restores_what_the_transform_finds(digits, tmp_path, run):
    output = tmp_path / "restored"
    assert "Restored 60 images" in run("restore", "digits", digits, output, "--batch_size=7")
    restore = RestoreTransform("digits")
    rows = {row["file"]: row for row in _rows(output)}
    sources = sorted(digits.rglob("*.png"))
    assert len(rows) == len(sources) == 60
    for source in sources:
        image = read_image(source, grayscale=True)
        name = str(source.relative_to(digits))
        found = restore.find(image)
        assert torch.equal(read_image(output / name, grayscale=True), restore(image))
        assert list(rows[name]) == ["file", "down", "right", "margin"]
        assert [int(rows[name]["down"]), int(rows[name]["right"])] == found.motion["shift"].tolist()
        assert float(rows[name]["margin"]) == pytest.approx(found.margin.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("estimator", "columns"),
    [
        (lambda: TranslationEstimator(1, (32, 32), axes=(-1,), kernel_size=3), ["right"]),
        (lambda: RotationEstimator(1, (32, 32), num_angles=24, kernel_size=3), ["angle"]),
        (
            lambda: QuarterTurnEstimator(1, (32, 32), mirrors=True, shifts=False),
            ["mirrored", "quarters"],
        ),
        (
            lambda: RotoTranslationEstimator(
                1,
                (32, 32),
                translation={"kernel_size": 3},
                rotation={"num_angles": 24, "kernel_size": 3},
            ),
            ["down", "right", "angle"],
        ),
    ],
    ids=["axis", "rotation", "quarters", "roto-translation"],
)
def test_columns_are_those_of_the_motion(estimator, columns, digits, tmp_path, run):
    weights, output = tmp_path / "mine.safetensors", tmp_path / "restored"
    save_estimator(estimator(), weights)
    run("restore", weights, digits / "3", output)
    restore = RestoreTransform(weights)
    rows = _rows(output)
    assert sorted(rows[0]) == sorted(["file", *columns, "margin"])
    for row in rows:
        image = read_image(digits / "3" / row["file"], grayscale=True)
        element = restore.find(image).motion
        names = [
            name
            for field in restore.estimator.motion.fields
            for name in field.columns or [field.name]
        ]
        values = torch.cat(
            [element[field.name].reshape(-1).double() for field in restore.estimator.motion.fields]
        )
        assert [float(row[name]) for name in names] == values.tolist()
        assert torch.equal(read_image(output / row["file"], grayscale=True), restore(image))


def test_images_below_the_margin_stay(digits, tmp_path, run):
    output = tmp_path / "restored"
    run("restore", "digits", digits / "3", output, "--min_margin=1e9")
    for row in _rows(output):
        assert (row["down"], row["right"]) == ("0", "0")
        image = read_image(digits / "3" / row["file"], grayscale=True)
        assert torch.equal(read_image(output / row["file"], grayscale=True), image)


def test_scores_are_computed_once(digits, tmp_path, run, monkeypatch):
    calls = []
    exact_scores = TranslationEstimator.exact_scores

    def counted(self, x):
        calls.append(len(x))
        return exact_scores(self, x)

    monkeypatch.setattr(TranslationEstimator, "exact_scores", counted)
    run("restore", "digits", digits, tmp_path / "restored", "--batch_size=25")
    assert calls == [25, 25, 10]


def test_nothing_is_written_unless_every_image_fits(digits, tmp_path, fails):
    output = tmp_path / "restored"
    Image.new("L", (40, 32)).save(digits / "wide.png")
    message = fails("restore", "digits", digits, output)
    assert "Expected images of 32 × 32 pixels" in message
    assert "but got 32 × 40 in" in message
    assert not output.exists()
    (digits / "wide.png").write_bytes(b"no image")
    assert "to be a readable image" in fails("restore", "digits", digits, output)
    assert not output.exists()
    (digits / "wide.png").unlink()
    one = next(digits.rglob("*.png"))
    Image.open(one).save(one.with_suffix(".bmp"))
    assert "would both become" in fails("restore", "digits", digits, output)
    assert not output.exists()


def test_older_output_is_kept(digits, tmp_path, fails):
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "mine.txt").write_text("mine")
    message = fails("restore", "digits", digits, tmp_path / "restored")
    assert "Expected `output` to be a new or empty folder" in message
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["mine.txt"]


def test_user_errors_are_one_line(digits, tmp_path, fails):
    assert fails("restore", "digits", tmp_path / "none", tmp_path / "out").startswith(
        "eqrestore: Expected a folder of images, but found none at"
    )
    assert "Expected `source` to be one of" in fails(
        "restore", "no-weights", tmp_path, tmp_path / "out"
    )
    (tmp_path / "empty").mkdir()
    assert "found none" in fails("restore", "digits", tmp_path / "empty", tmp_path / "out")
    assert "Expected `batch_size` to be at least 1, but got 0." in fails(
        "restore", "digits", digits, tmp_path / "out", "--batch_size=0"
    )
    assert "with two spatial axes, but these are for 3" in fails(
        "restore", "mnist3d", digits, tmp_path / "out"
    )


def test_quarter_turns_need_square_images_and_a_prior_leaves_them(tmp_path, run, fails):
    weights, folder = tmp_path / "upright.safetensors", tmp_path / "images"
    folder.mkdir()
    save_estimator(UprightEstimator(3, scorer_options={"channels": [4]}), weights)
    pixels = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    TF.to_pil_image(pixels).save(folder / "square.png")
    run("restore", weights, folder, tmp_path / "left", "--prior=0.9999999")
    assert torch.equal(read_image(tmp_path / "left" / "square.png"), pixels)
    assert _rows(tmp_path / "left")[0]["quarters"] == "0"
    TF.to_pil_image(pixels[:, :30]).save(folder / "wide.png")
    message = fails("restore", weights, folder, tmp_path / "out")
    assert f"Expected {folder}/wide.png to fit the weights, but got: Expected square" in message
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_text_are_kept(tmp_path, run):
    weights, images, output = tmp_path / "x.safetensors", tmp_path / "in", tmp_path / "out"
    save_estimator(TranslationEstimator(3, (6, 7), kernel_size=3), weights)
    images.mkdir()
    name = b"caf\xe9 \xc3\xbc.png"  # latin-1, then UTF-8
    Image.new("RGB", (7, 6), "red").save(images / os.fsdecode(name))
    run("restore", weights, images, output)
    assert (output / os.fsdecode(name)).is_file()
    assert name in (output / "shifts.csv").read_bytes()
