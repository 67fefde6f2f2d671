"""The command `eqrestore fit`."""

import re

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import RestoreTransform, Shift, Turn, load_estimator
from eqrestore_lightning.cli import _fit_data
from eqrestore_lightning.cli._fit_data import choose_network, look_at
from eqrestore_lightning.cli._fit_report import conclusion
from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.motions import Product
from eqrestore_lightning.nn import list_presets

_QUICK = ["--grayscale", "--steps=1", "--sources=file"]


@pytest.fixture
def photos(tmp_path):
    """Write 12 noisy pictures of different sizes, three of each of four sources."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        image = torch.randint(0, 256, (3, 30 + number, 44), dtype=torch.uint8)
        TF.to_pil_image(image).save(folder / f"{'abcd'[number // 3]}_{number}.png")
    return folder


@pytest.mark.parametrize(
    ("network", "columns"), [("paper", 2), ("rotation", 1), ("roto-translation", 3)]
)
def test_weights_restore(network, columns, digits, tmp_path, run):
    output = tmp_path / "new" / "mine.safetensors"
    printed = run("fit", digits, output, *_QUICK, f"--network={network}")
    picture = output.with_name("mine-restored.png")
    assert f"Wrote {output} and {picture}." in printed
    assert sorted(output.parent.iterdir()) == [picture, output]
    image = read_image(next(digits.rglob("*.png")), grayscale=True)
    restore = RestoreTransform(output)
    found = restore.find(image.unsqueeze(0)).motion
    assert sum(value.reshape(1, -1).shape[1] for value in found.values()) == columns


def test_photographs_of_any_size_are_turned_upright(photos, tmp_path, run):
    output = tmp_path / "mine.safetensors"
    options = ["--steps=1", "--image_size=32", "--start=scratch", "--network=upright"]
    printed = run("fit", photos, output, *options)
    assert "each turned at random, " in printed
    found = RestoreTransform(output).find(read_image(next(photos.rglob("*.png"))))
    assert set(found.motion) == {"quarters"}
    assert (output.parent / "mine-restored.png").is_file()


def test_report_ends_with_figures_for_a_person(digits, tmp_path, run):
    printed = run("fit", digits, tmp_path / "mine.safetensors", *_QUICK, "--network=border")
    lines = printed.splitlines()
    assert "train 48" in lines[0]
    assert any(line.startswith("Note: Fewer than half are found. Try more") for line in lines)
    assert any(line.startswith("Note: Only 48 training images;") for line in lines)
    assert lines[-1].startswith("Of 6 test images, each shifted at random, ")
    assert re.search(
        r"1 pixel \(median error: \S+ pixels\); without training, the best rule \(", lines[-1]
    )
    assert lines[-1].endswith(" %) exactly.")


def test_rotations_are_compared_with_no_rule(digits, tmp_path, run):
    options = [*_QUICK, "--network=rotation", "--corners=border"]
    last = run("fit", digits, tmp_path / "mine.safetensors", *options).splitlines()[-1]
    assert last.startswith("Of 6 test images, each rotated at random, ")
    assert re.search(r" are restored to within 10 degrees \(median error: \S+ degrees\)\.$", last)
    assert load_estimator(tmp_path / "mine.safetensors").motion == Turn(fill="border")


def test_images_of_one_source_stay_together(photos, tmp_path, run):
    printed = run("fit", photos, tmp_path / "mine.safetensors", "--steps=1", "--image_size=16")
    assert "Split by source (file-name prefix), so that none is in two parts" in printed
    assert "train 6 images (" in printed


def test_photo_takes_photographs_of_any_size(photos, tmp_path, run, monkeypatch):
    monkeypatch.setitem(_fit_data.CROPPED, "photo", (16, 24, 999))
    output, restored = tmp_path / "mine.safetensors", tmp_path / "restored"
    options = ["--network=photo", "--start=scratch", "--steps=2", "--batch_size=8"]
    printed = run("fit", photos, output, *options)
    assert "Of 96 random crops of test photographs" in printed
    assert load_estimator(output).spatial_size is None
    assert "Restored 12 images" in run("restore", output, photos, restored, "--batch_size=2")
    restore = RestoreTransform(output)
    for path in photos.iterdir():
        assert torch.equal(read_image(restored / path.name), restore(read_image(path)))


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_signals(suffix, tmp_path, run):
    signals = np.random.default_rng(0).normal(size=(40, 24)).cumsum(1)
    path, output = tmp_path / f"signals{suffix}", tmp_path / "mine.safetensors"
    if suffix == ".npy":
        np.save(path, signals[:, None].astype(np.float32))
    else:
        np.savetxt(path, signals, delimiter=",")
    printed = run("fit", path, output, "--steps=8", "--batch_size=8")
    restore = RestoreTransform(output)
    assert restore.estimator.spatial_size == (24,)
    assert "Of 4 test signals, each shifted at random" in printed
    assert "restored.png" not in printed
    x = torch.from_numpy(signals[:3, None]).float()
    assert torch.equal(restore(x.roll(7, 2)), restore(x))


def test_shifts_along_one_axis(digits, tmp_path, run, fails):
    output = tmp_path / "mine.safetensors"
    run("fit", digits, output, *_QUICK, "--axes", "[-1]")
    assert load_estimator(output).motion == Shift((-1,))
    options = [*_QUICK, "--overwrite"]
    message = fails("fit", digits, output, *options, "--network=rotation", "--axes", "[-1]")
    assert "Expected `--axes` only for a network that takes it" in message
    assert "Expected `--axes` to be" in fails("fit", digits, output, *options, "--axes", "[1]")


def test_max_shift_trains_on_images_that_lost_content(digits, tmp_path, run, fails):
    output = tmp_path / "mine.safetensors"
    run("fit", digits, output, *_QUICK, "--network=border", "--max_shift=3")
    assert load_estimator(output).motion == Shift()  # it undoes any
    options = [*_QUICK, "--overwrite"]
    message = fails("fit", digits, output, *options, "--network=rotation", "--max_shift=3")
    assert "Expected `--max_shift` to be 0 for a network that does not find shifts" in message


def test_training_continues_from_weights(digits, tmp_path, run, fails):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    run("fit", digits, first, *_QUICK, "--network=border")
    told = run("fit", digits, second, *_QUICK[::2], f"--start={first}", "--minutes=1e-9")
    assert "Note: Training did not improve on the weights" in told
    image = read_image(next(digits.rglob("*.png")), grayscale=True)
    ours, theirs = (
        RestoreTransform(path).find(image.unsqueeze(0), scores=True) for path in (first, second)
    )
    assert torch.equal(ours.scores, theirs.scores)
    message = fails(
        "fit", digits, second, "--steps=1", "--sources=file", f"--start={first}", "--overwrite"
    )
    assert "Expected images of shape (1, 32, 32) (channels, then size)" in message
    message = fails(
        "fit", digits, second, *_QUICK, f"--start={first}", "--axes", "[-1]", "--overwrite"
    )
    assert "Expected `--axes` only for a network that takes it" in message


def test_user_errors_are_one_line(digits, tmp_path, fails):
    message = fails("fit", tmp_path, tmp_path / "weights.pt")
    assert "Expected `output` to end in .safetensors" in message
    output = tmp_path / "new" / "mine.safetensors"
    message = fails("fit", digits, output, "--network=resnet")
    assert f"Expected `--network` to be one of {', '.join(list_presets())}" in message
    assert "found none" in fails("fit", tmp_path / "none", output)
    assert "found none" in fails("fit", tmp_path / "none.npy", output)
    assert not output.parent.exists()


def test_conclusion_says_when_training_did_not_beat_a_rule():
    trained = {"shift_accuracy": 0.5, "shift_accuracy_1px": 0.75}
    rules = {
        "one": {"shift_accuracy": 0.25, "shift_accuracy_1px": 1.0},
        "other": {"shift_accuracy": 0.5, "shift_accuracy_1px": 0.5},
    }
    told = conclusion(trained, rules, Shift(), 1000, "test images", median=0.5)
    note, sentence = told.splitlines()
    assert note == 'Note: Training did not beat the rule "other", which needs none.'
    assert sentence == (
        "Of 1,000 test images, each shifted at random, 500 (50.0 %) are restored exactly and 750 "
        "(75.0 %) to within 1 pixel (median error: 0.5 pixels); without training, the best rule "
        "(other) restores 500 (50.0 %) exactly."
    )
    del rules["other"]
    (sentence,) = conclusion(trained, rules, Shift(), 8, "images", median=0.5).splitlines()
    assert sentence.endswith("without training, the best rule (one) restores 2 (25.0 %) exactly.")
    advice, _ = conclusion(trained | {"shift_accuracy": 0.4}, {}, Shift(), 8, "", median=1).split(
        "\n"
    )
    assert advice.startswith("Note: Fewer than half are found. Try more images")


def test_conclusion_for_several_fields():
    found = {"shift_accuracy": 0.5, "shift_accuracy_1px": 0.75, "angle_accuracy_10deg": 1.0}
    assert conclusion(found, {}, Product(Turn(), Shift()), 8, "test images", median=3) == (
        "Of 8 test images, each rotated and shifted at random, the angle is found to within 10 "
        "degrees for 8 (100.0 %), the shift is found exactly for 4 (50.0 %) and to within 1 pixel "
        "for 6 (75.0 %) (median error: 3 degrees)."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--steps=0", "Expected `--steps` to be at least 1, but got 0."),
        ("--steps=1 --minutes=1", "Expected either `--steps` or `--minutes`, but got both."),
        ("--image-size=0", "Expected `--image-size` to be at least 1, but got 0."),
        ("--minutes=0", "Expected `--minutes` to be finite and above 0, but got 0.0."),
        ("--minutes=.inf", "Expected `--minutes` to be finite and above 0, but got inf."),
    ],
)
def test_lengths_that_would_train_nothing_or_forever_are_refused(options, message, tmp_path, fails):
    assert message in fails("fit", tmp_path, tmp_path / "x.safetensors", *options.split())


def _objects(folder, count=24, *, color=False, roll=0):
    """Write ellipses in a blank border."""
    folder.mkdir()
    for number in range(count):
        picture = PIL.Image.new("RGB", (40, 32))
        box = (8 + number % 5, 6 + number % 7, 31 - number % 5, 25 - number % 7)
        PIL.ImageDraw.Draw(picture).ellipse(box, fill=(200, 80 if color else 200, 200))
        TF.to_pil_image(TF.pil_to_tensor(picture).roll(roll, 2)).save(folder / f"{number:02}.png")
    return folder


@pytest.mark.parametrize("color", [False, True])
def test_objects_in_a_blank_border_get_a_network_for_them(color, tmp_path, run, fails):
    folder, output = _objects(tmp_path / "objects", color=color), tmp_path / "mine.safetensors"
    printed = run("fit", folder, output, "--sources=file", "--steps=2")
    assert printed.startswith("Images of objects in a blank border: network border.")
    estimator = load_estimator(output)
    assert (estimator.in_channels, estimator.spatial_size) == (3 if color else 1, (32, 40))
    message = fails("fit", folder, tmp_path / "x.safetensors", "--network=photo")
    assert "Expected `--network` to be one for images in a blank border" in message


def test_look(tmp_path, capsys):
    look = look_at(_objects(tmp_path / "objects"), grayscale=False)
    assert (look.gray, look.in_blank_border, look.seem_shifted) == (True, True, False)
    smooth = torch.arange(0, 240, 6).float().outer(torch.linspace(0.5, 1, 30)).byte()
    for name, shift in (("still", 0), ("moved", 13)):
        (tmp_path / name).mkdir()
        for number in range(3):
            image = smooth.expand(3, -1, -1).roll((shift + number * (shift > 0), shift), (1, 2))
            TF.to_pil_image(image).save(tmp_path / name / f"{number}.png")
        look = look_at(tmp_path / name, grayscale=False)
        assert (look.in_blank_border, look.seem_shifted) == (False, name == "moved")
        assert choose_network(None, None, look, grayscale=False) == "photo"
        assert ("as if they had been shifted" in capsys.readouterr().out) == (name == "moved")


def test_a_finished_run_is_not_begun_again_unasked(digits, tmp_path, run, fails):
    command = ["fit", digits, tmp_path / "mine.safetensors", *_QUICK, "--network=border"]
    run(*command)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("mine*")}
    assert run(*command).startswith("Nothing to do: ")
    message = fails(*command, "--seed=1")
    assert "holds what other options or images made; `--overwrite` replaces it." in message
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("mine*")} == before
    assert "Wrote " in run(*command, "--seed=1", "--overwrite")


def test_the_output_is_checked_before_the_work(digits, tmp_path, fails):
    (tmp_path / "folder.safetensors").mkdir()
    message = fails("fit", digits, tmp_path / "folder.safetensors")
    assert "Expected `output` to be a file, but" in message
    message = fails("fit", digits, "/proc/none/mine.safetensors")
    assert "Expected `output` to lie where files may be written, but /proc refuses them" in message
    sizes = _objects(tmp_path / "sizes", 3)
    PIL.Image.new("RGB", (9, 9)).save(sizes / "small.png")
    message = fails("fit", sizes, tmp_path / "x.safetensors", "--network=seam")
    assert (
        "Expected `--image_size` for the network seam, as images differ in size (9 × 9 to"
        in message
    )
