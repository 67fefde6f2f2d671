"""The command `eqrestore restore`."""

import contextlib
import csv
import io
import multiprocessing
import os
import random
import resource
import signal
import time

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import (
    CopiesEstimator,
    QuarterTurn,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
    cli,
    save_estimator,
)
from eqrestore_lightning.data._image_files import read_image


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
            lambda: CopiesEstimator(1, motion=QuarterTurn(mirrors=True)),
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
    assert "Expected `weights` to be one of" in fails(
        "restore", "no-weights", tmp_path, tmp_path / "out"
    )
    (tmp_path / "empty").mkdir()
    assert "found none" in fails("restore", "digits", tmp_path / "empty", tmp_path / "out")
    assert "Expected `--batch-size` to be at least 1, but got 0." in fails(
        "restore", "digits", digits, tmp_path / "out", "--batch-size=0"
    )
    assert "with two spatial axes, but these are for 3" in fails(
        "restore", "mnist3d", digits, tmp_path / "out"
    )


def test_all_quarter_turns_of_wide_images_are_restored_alike_and_a_prior_leaves_them(tmp_path, run):
    weights, folder = tmp_path / "upright.safetensors", tmp_path / "images"
    folder.mkdir()
    save_estimator(CopiesEstimator(3, scorer_options={"channels": [4]}), weights)
    pixels = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    TF.to_pil_image(pixels).save(folder / "square.png")
    run("restore", weights, folder, tmp_path / "left", "--prior=0.9999999")
    assert torch.equal(read_image(tmp_path / "left" / "square.png"), pixels)
    assert _rows(tmp_path / "left")[0]["quarters"] == "0"
    for quarters in range(4):
        wide = torch.rot90(pixels[:, :30], quarters, (1, 2))
        TF.to_pil_image(wide).save(folder / f"wide{quarters}.png")
    run("restore", weights, folder, tmp_path / "out")
    restored = [read_image(tmp_path / "out" / f"wide{quarters}.png") for quarters in range(4)]
    assert all(torch.equal(each, restored[0]) for each in restored)
    assert sorted(restored[0].shape) == [3, 30, 40]


def test_names_that_are_no_text_are_kept(tmp_path, run):
    weights, images, output = tmp_path / "x.safetensors", tmp_path / "in", tmp_path / "out"
    save_estimator(TranslationEstimator(3, (6, 7), kernel_size=3), weights)
    images.mkdir()
    name = b"caf\xe9 \xc3\xbc.png"  # latin-1, then UTF-8
    Image.new("RGB", (7, 6), "red").save(images / os.fsdecode(name))
    run("restore", weights, images, output)
    assert (output / os.fsdecode(name)).is_file()
    assert name in (output / "shifts.csv").read_bytes()


@contextlib.contextmanager
def _full_disk(size):
    """Let no file grow beyond a size, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_that_a_full_disk_stopped_goes_on(digits, tmp_path, run, fails, tree):
    whole, output = tmp_path / "whole", tmp_path / "restored"
    command = ["restore", "digits", digits, output, "--batch_size=8"]
    run("restore", "digits", digits, whole, "--batch_size=8")
    with _full_disk(1_000):  # the table is larger
        assert "File too large" in fails(*command)
    assert "shifts.csv" not in tree(output)
    before = tree(output)
    for options in (["--min_margin=1"], ["--batch_size=9"]):
        assert "holds what other options, weights or images began." in fails(*command, *options)
    assert "images began." in fails("restore", "mnist", digits, output, "--batch_size=8")
    image = next(digits.rglob("*.png"))
    times = image.stat().st_atime_ns, image.stat().st_mtime_ns
    image.touch()
    assert "images began." in fails(*command)
    os.utime(image, ns=times)
    assert tree(output) == before
    next(output.glob(".unfinished-*/*3.json")).unlink()  # killed before it was written
    assert "Going on: 8 of 60 images are left." in run(*command)
    assert tree(output) == tree(whole)
    assert {path.name for path in output.iterdir()} == {path.name for path in whole.iterdir()}
    assert "holds other files." in fails(*command)


def _restore_until_killed(arguments):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        cli.eqrestore(arguments)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(digits, tmp_path, run, tree):
    whole, output = tmp_path / "whole", tmp_path / "restored"
    run("restore", "digits", digits, whole, "--batch_size=2")
    command = ["restore", "digits", str(digits), str(output), "--batch_size=2"]
    context, moments = multiprocessing.get_context("fork"), random.Random(0)
    kills = 0
    while not (output / "shifts.csv").exists():
        process = context.Process(target=_restore_until_killed, args=(command,))
        process.start()
        wanted = len(list(output.glob("[0-9]/*.png"))) + moments.randint(1, 15)
        while process.is_alive() and len(list(output.glob("[0-9]/*.png"))) < wanted:
            time.sleep(moments.random() / 1_000)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 3
    if list(output.glob(".unfinished-*")):  # it was killed when only that was left
        run(*command)
    assert tree(output) == tree(whole)


def test_bad_files_are_named_and_left_out_on_request(digits, tmp_path, run, fails, tree):
    run("restore", "digits", digits, tmp_path / "good")
    photo = io.BytesIO()
    Image.open(next(digits.rglob("*.png"))).save(photo, "JPEG")
    (digits / "3" / "broken.jpg").write_bytes(photo.getvalue()[:-60])
    Image.new("L", (40, 32)).save(digits / "wide.png")
    Image.new("I;16", (32, 32)).save(digits / "deep.png")
    output = tmp_path / "restored"
    message = fails("restore", "digits", digits, output)
    assert "2 files cannot be restored. Expected" in message  # as their headers tell
    assert "`--skip_bad` leaves such files out." in message
    assert not output.exists()
    told = run("restore", "digits", digits, output, "--skip-bad")
    assert "Restored 60 images into" in told
    assert "Skipped: 3, see skipped.csv." in told
    with (output / "skipped.csv").open(newline="", encoding="utf-8") as file:
        skipped = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(skipped) == {"3/broken.jpg", "wide.png", "deep.png"}
    assert "pixels (height × width), for which" in skipped["wide.png"]
    assert "more than 8 bits per channel (I;16" in skipped["deep.png"]
    assert "to be a readable image" in skipped["3/broken.jpg"]
    (output / "skipped.csv").unlink()
    for name in ("wide.png", "deep.png"):
        (digits / name).unlink()
    message = fails("restore", "digits", digits, tmp_path / "stopped")
    assert "3/broken.jpg to be a readable image" in message
    assert message.endswith("`--skip_bad` leaves such files out.")
    assert tree(output) == tree(tmp_path / "good")


def test_it_is_an_error_if_all_files_are_bad(tmp_path, fails):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    message = fails("restore", "digits", tmp_path / "images", tmp_path / "out", "--skip_bad=true")
    assert "Expected at least one image to be good. Expected" in message
    assert not (tmp_path / "out" / "shifts.csv").exists()


def test_images_are_resized_on_request_alone(tmp_path, run, fails):
    folder, weights = tmp_path / "images", tmp_path / "mine.safetensors"
    folder.mkdir()
    save_estimator(TranslationEstimator(3, (24, 40), kernel_size=3), weights)
    pixels = torch.randint(0, 256, (3, 60, 81), dtype=torch.uint8)
    TF.to_pil_image(pixels).save(folder / "a.png")
    message = fails("restore", weights, folder, tmp_path / "out")
    assert "Expected images of 24 × 40 pixels (height × width)" in message
    assert "but got 60 × 81 in" in message
    assert "`--resize` resizes them." in message
    run("restore", weights, folder, tmp_path / "out", "--resize")
    image = read_image(folder / "a.png", image_size=(24, 40))
    restored = RestoreTransform(weights)(image)
    assert torch.equal(read_image(tmp_path / "out" / "a.png"), restored)
    message = fails("restore", "photo", folder, tmp_path / "no", "--resize")
    assert "Expected no `--resize` with weights for images of any size" in message


def test_what_the_system_refuses_is_one_line(digits, tmp_path, fails):
    file = tmp_path / "file"
    file.write_text("a file")
    for output in (file, "/dev/full"):
        message = fails("restore", "digits", digits, output)
        assert f"Expected `output` to be a folder, but {output} is none." in message
    message = fails("restore", "digits", digits, file / "out")
    assert f"{file} refuses them (Not a directory)" in message


def test_devices_are_checked(digits, tmp_path, fails):
    command = ["restore", "digits", digits, tmp_path / "out"]
    assert "Expected `--devices` to be at least 1, but got 0." in fails(*command, "--devices=0")
    if not torch.cuda.is_available():
        message = fails(*command, "--device=cuda")
        assert "Expected `--device` to be one that this machine has, auto, cpu" in message
    assert not (tmp_path / "out").exists()


def test_names_of_the_output_are_checked_first(digits, tmp_path, fails):
    inside = fails("restore", "digits", digits, digits / "out")
    assert f"Expected `output` to lie outside of {digits}" in inside
    (digits / "shifts.csv").mkdir()
    next(digits.rglob("*.png")).rename(digits / "shifts.csv" / "a.png")
    assert "would both become shifts.csv/a.png." in fails(
        "restore", "digits", digits, tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()
