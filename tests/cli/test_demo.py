import re
import signal
import socket
import subprocess
import sys

import PIL.Image
import pytest
import torch
from fuzz.tools import save_checkpoint
from torchvision import models

from eqrestore_lightning import (
    DigitsDataModule,
    QuarterTurn,
    RestoreTransform,
    Shift,
    load_estimator,
)
from eqrestore_lightning.cli._demo_view import (
    classify_with,
    cut,
    samples,
    score_picture,
    sentence,
    size_of,
    view,
)
from eqrestore_lightning.training import ClassifierModule
from eqrestore_lightning.training._classifier import load_classifier

DIGITS = DigitsDataModule().dataset("test").images
MARK = (255, 0, 0)
CLOSING = "Method not implemented."  # what Gradio tells when it closes a stream


def _reds(picture):
    """Return the columns and rows of a picture that hold the mark."""
    width, height = picture.size
    places = [
        (x, y) for x in range(width) for y in range(height) if picture.getpixel((x, y)) == MARK
    ]
    return [min(axis) for axis in zip(*places, strict=True)], [
        max(axis) for axis in zip(*places, strict=True)
    ]


@pytest.fixture
def checkpoint(tmp_path):
    return str(save_checkpoint(ClassifierModule(1, 10), tmp_path / "classifier.ckpt"))


def test_a_moved_image_is_found_and_restored():
    restore = RestoreTransform("digits")
    still = view(DIGITS[3], restore)
    moved = view(DIGITS[3], restore, down=9, right=-8)
    assert still.found.startswith("Found: down 0, right 0. Margin: ")
    assert moved.found.startswith("Found: down 9, right -8. Margin: ")
    assert moved.found.endswith("equals, in every bit, what the unmoved image is restored to.")
    assert moved.restored.tobytes() == still.restored.tobytes()
    assert moved.moved.tobytes() != still.moved.tobytes()
    assert moved.classes is None
    assert {picture.size for picture in (moved.moved, moved.scores, moved.restored)} == {(256, 256)}


def test_what_is_not_undone_is_said():
    shown = view(DIGITS[3], RestoreTransform("digits"), angle=45)
    assert re.search(r"differs, at \d+ of 1,024 pixels, from what the unmoved", shown.found)


@pytest.mark.parametrize(
    ("weights", "motion", "found"),
    [
        ("mnist-rotation", {"angle": 90}, r"angle -?\d+\.\d\."),
        ("mnist-roto-translation", {"down": 5}, r"angle -?\d+\.\d, down -?\d+, "),
        ("cifar10-upright", {"angle": -90}, r"quarters [0-3]\."),
    ],
)
def test_other_motions(weights, motion, found):
    restore = RestoreTransform(weights)
    image = DIGITS[3].expand(restore.estimator.in_channels, -1, -1)
    shown = view(image, restore, **motion)
    assert re.match(f"Found: {found}", shown.found)
    assert "equals, in every bit," in shown.found


def test_motions_in_words():
    assert sentence(Shift((-1,)), {"shift": torch.tensor([-3])}) == "right -3"
    element = {"mirrored": torch.tensor(1), "quarters": torch.tensor(3)}
    assert sentence(QuarterTurn(mirrors=True), element) == "mirrored 1, quarters 3"


def test_the_largest_score_is_marked():
    scores = torch.zeros(32, 16)
    scores[20, 3] = 1.0
    picture = score_picture(scores)
    assert picture.size == (128, 256)
    (left, top), (right, bottom) = _reds(picture)
    assert (left + right) / 16 == pytest.approx(3.5, abs=0.1)
    assert (top + bottom) / 16 == pytest.approx(20.5, abs=0.1)
    picture = score_picture(torch.tensor([0.0, 1.0, 3.0, 2.0]))
    assert picture.size == (256, 64)
    (left, top), (right, bottom) = _reds(picture)
    assert (left + right) / 2 == pytest.approx(2.5 * 64, abs=1)
    assert (top + bottom) / 2 == pytest.approx(32, abs=1)
    assert score_picture(torch.zeros(4, 4)).size == (256, 256)  # all equal


def test_pictures_are_cut_to_what_the_weights_take():
    wide = PIL.Image.new("RGBA", (300, 20), (10, 200, 30, 255))
    assert cut(wide, load_estimator("mnist")).shape == (1, 32, 32)
    assert cut(wide, load_estimator("photo")).shape == (3, 256, 256)
    assert size_of(load_estimator("cifar10")) == (40, 40)
    picture = samples(load_estimator("digits"))["3"]
    image = cut(picture, load_estimator("digits"))
    assert image.dtype == torch.uint8
    assert torch.equal(image, cut(PIL.Image.fromarray(image[0].numpy()), load_estimator("digits")))


def test_images_to_choose_from():
    assert list(samples(load_estimator("mnist"))) == [str(digit) for digit in range(10)]
    photographs = samples(load_estimator("photo"))
    assert {"coffee", "china"} <= set(photographs)
    assert {picture.mode for picture in photographs.values()} == {"RGB"}


def test_a_classifier_of_a_checkpoint(checkpoint):
    classify = classify_with(checkpoint, (1, 32, 32))
    shown = view(DIGITS[3], RestoreTransform("digits"), down=7, classify=classify)
    moved, restored = shown.classes
    assert set(moved) == {str(digit) for digit in range(10)}
    assert sum(moved.values()) == pytest.approx(1)
    expected = load_classifier(checkpoint).eval()(DIGITS[3:4].float() / 255).softmax(1)[0]
    assert list(restored.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert moved != restored


def test_a_classifier_of_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.get_model_weights("squeezenet1_1").DEFAULT
    file = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(models.squeezenet1_1().state_dict(), file)  # as if downloaded before
    image = torch.zeros(3, 256, 256, dtype=torch.uint8)
    shares = classify_with("squeezenet1_1", image.shape)(image)
    assert len(shares) == 1_000
    assert sum(shares.values()) == pytest.approx(1)
    assert "espresso" in shares


def test_bad_arguments(fails, monkeypatch, checkpoint):
    assert fails("demo", "--weights", "mnist3d") == (
        "eqrestore: Expected weights for images, with two spatial axes, but these are for 3; "
        "RestoreTransform in Python restores such data."
    )
    assert "Expected a checkpoint, but found none" in fails("demo", "--classifier", "missing.ckpt")
    assert "classifier.ckpt to take images of shape (3, 256, 256), but got: " in fails(
        "demo", "--classifier", checkpoint
    )
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    assert fails("demo") == (
        "eqrestore: Expected gradio to be installed, but it is not: "
        "pip install 'eqrestore-lightning[demo]' installs it."
    )


@pytest.fixture
def served(checkpoint):
    """Run the command, and return the address of its page."""
    pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[demo]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from eqrestore_lightning import cli; cli.eqrestore(sys.argv[1:])"
    options = ["--weights", "digits", "--classifier", checkpoint, "--port", str(port)]
    command = [sys.executable, "-c", code, "demo", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line == f"http://127.0.0.1:{port} shows the page; Ctrl-C ends it.\n"
        yield line.split()[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) in (0, 130)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(served, open_page, scheme, tmp_path):
    problems = []
    page = open_page(problems, scheme)
    page.goto(served)
    told = page.locator("p", has_text="Found:")
    told.filter(has_text="Found: down 6, right -8.").wait_for(timeout=60_000)
    for name, pixels in (("down, pixels", "9"), ("right, pixels", "-8")):
        number = page.get_by_label(f"number input for {name}")
        number.fill(pixels)
        number.press("Enter")
    told.filter(has_text="Found: down 9, right -8.").wait_for(timeout=60_000)
    assert "equals, in every bit" in told.inner_text()
    assert page.locator("text=Not undone by these weights.").count() == 1  # the angle
    assert page.locator("text=classes of the restored image").is_visible()
    loaded = "[...document.images].length >= 4 && [...document.images].every(i => i.naturalWidth)"
    page.wait_for_function(loaded, timeout=60_000)
    own = PIL.Image.new("L", (64, 64))
    own.paste(255, (20, 12, 30, 50))
    own.save(tmp_path / "own.png")
    before = told.inner_text()
    page.locator("button[aria-label='Remove Image'], button[title='Remove Image']").first.click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "own.png")
    page.wait_for_function(
        "text => !document.body.innerText.includes(text)", arg=before, timeout=60_000
    )
    told.wait_for(timeout=60_000)
    assert [problem for problem in problems if CLOSING not in problem] == []
