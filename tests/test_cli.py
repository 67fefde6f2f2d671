import contextlib
import csv
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import (
    ClassifierModule,
    DigitsDataModule,
    RestoreTransform,
    RotationEstimator,
    cli,
    save_estimator,
)
from eqrestore_lightning.data import read_image

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*fork"
)


@pytest.fixture
def digits(tmp_path):
    """Write shifted digits as an image folder, with their classes."""
    data = DigitsDataModule().dataset("test")
    folder = tmp_path / "digits"
    for number in range(60):
        image = data.images[number].roll((number % 7, -number % 5), (1, 2))
        path = folder / str(int(data.labels[number])) / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        TF.to_pil_image(image).save(path)
    return folder


def _fails(capsys, *arguments):
    with pytest.raises(SystemExit) as status:
        cli.eqrestore([str(argument) for argument in arguments])
    assert status.value.code == 2
    return capsys.readouterr().err


def test_restore_writes_angles_of_rotations(digits, tmp_path):
    weights, output = tmp_path / "rotation.safetensors", tmp_path / "restored"
    save_estimator(RotationEstimator(1, (32, 32), num_angles=24, kernel_size=3), weights)
    cli.eqrestore(["restore", str(weights), str(digits), str(output)])
    restore = RestoreTransform(weights)
    with (output / "shifts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    for row in rows:
        image = read_image(digits / row["file"], grayscale=True)
        assert float(row["angle"]) == restore.estimate(image).item()
        assert torch.equal(read_image(output / row["file"], grayscale=True), restore(image))


def test_restore_writes_what_the_transform_gives(digits, tmp_path, capsys):
    output = tmp_path / "restored"
    cli.eqrestore(["restore", "digits", str(digits), str(output), "--batch_size=7"])
    restore = RestoreTransform("digits")
    with (output / "shifts.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    sources = sorted(digits.rglob("*.png"))
    assert len(rows) == len(sources) == 60
    for source in sources:
        image = read_image(source, grayscale=True)
        name = str(source.relative_to(digits))
        assert torch.equal(read_image(output / name, grayscale=True), restore(image))
        assert [int(rows[name]["down"]), int(rows[name]["right"])] == (
            restore.estimate(image).tolist()
        )
    assert "Restored 60 images" in capsys.readouterr().out


def test_restore_writes_nothing_unless_every_image_fits(digits, tmp_path, capsys):
    output = tmp_path / "restored"
    Image.new("L", (40, 32)).save(digits / "wide.png")
    message = _fails(capsys, "restore", "digits", digits, output)
    assert "Expected images of 32 x 32 pixels" in message
    assert "but got 32 x 40 in" in message
    assert not output.exists()
    (digits / "wide.png").write_bytes(b"no image")
    assert "to be a readable image" in _fails(capsys, "restore", "digits", digits, output)
    assert not output.exists()
    (digits / "wide.png").unlink()
    one = next(digits.rglob("*.png"))
    Image.open(one).save(one.with_suffix(".bmp"))
    assert "would both become" in _fails(capsys, "restore", "digits", digits, output)
    assert not output.exists()


def test_restore_keeps_older_output(digits, tmp_path, capsys):
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "mine.txt").write_text("mine")
    message = _fails(capsys, "restore", "digits", digits, tmp_path / "restored")
    assert "Expected `output` to be a new or empty folder" in message
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["mine.txt"]


def test_missing_input_is_told_in_one_line(tmp_path, capsys):
    message = _fails(capsys, "restore", "digits", tmp_path / "none", tmp_path / "out")
    assert message.startswith("eqrestore: Expected a folder of images, but found none at")
    assert len(message.splitlines()) == 1
    message = _fails(capsys, "restore", "no-weights", tmp_path, tmp_path / "out")
    assert "Expected `source` to be one of" in message
    assert "found none" in _fails(capsys, "restore", "digits", tmp_path, tmp_path / "out")
    message = _fails(capsys, "fit", tmp_path, tmp_path / "weights.pt")
    assert "Expected `output` to end in .safetensors" in message


@pytest.mark.parametrize("network", ["paper", "rotation", "roto-translation"])
def test_fit_writes_weights_that_restore(network, digits, tmp_path, capsys):
    output = tmp_path / "new" / "mine.safetensors"
    options = ["--grayscale=true", "--epochs=1", f"--network={network}"]
    cli.eqrestore(["fit", str(digits), str(output), *options])
    assert f"Wrote {output}" in capsys.readouterr().out
    assert (output.parent / "restored.png").is_file()
    image = read_image(next(digits.rglob("*.png")), grayscale=True)
    last_epoch = RestoreTransform(output.parent / "mine-last-epoch.ckpt")
    restore = RestoreTransform(output)
    assert torch.equal(restore(image), last_epoch(image))
    entries = {"paper": 2, "rotation": 1, "roto-translation": 3}
    assert restore.estimate(image).shape == (entries[network],)


class _Bright(torch.nn.Module):
    def forward(self, x):
        return torch.eye(10)[(9 * x.mean((1, 2, 3))).long()]


def bright():
    return _Bright()


def test_evaluate_takes_checkpoints_and_names(digits, tmp_path, capsys, monkeypatch):
    module = ClassifierModule(1, 10)
    torch.save(
        {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
            "pytorch-lightning_version": "2.6.6",
        },
        tmp_path / "c.ckpt",
    )
    monkeypatch.chdir(Path(__file__).parent)
    options = ["--grayscale=true", "--max_shift=2"]
    for classifier in (str(tmp_path / "c.ckpt"), "test_cli:bright"):
        cli.eqrestore(["evaluate", classifier, str(digits), "digits", *options])
        printed = capsys.readouterr().out
        assert "60 images of 10 classes" in printed
        assert "| shifts up to, pixels | 0 | 1 | 2 |" in printed
    weights = tmp_path / "rotation.safetensors"
    save_estimator(RotationEstimator(1, (32, 32), num_angles=24, kernel_size=3), weights)
    turn = ["evaluate", "test_cli:bright", str(digits), str(weights), "--grayscale=true"]
    cli.eqrestore([*turn, "--kind=rotation"])
    printed = capsys.readouterr().out
    assert "| turned by, degrees | accuracy, no restorer | accuracy, restored |" in printed
    assert "\n| 345 | " in printed
    assert "to find shifts alone, but it finds (angle)" in _fails(capsys, *turn)
    for path in list(digits.rglob("*.png")):
        path.rename(digits / path.name)
    message = _fails(capsys, "evaluate", "test_cli:bright", digits, "digits", *options)
    assert "Expected a folder for each class in" in message


def _lightning(*arguments, cwd):
    command = [str(BIN / "lightning"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_lightning_runs_a_file_with_its_arguments(tmp_path):
    (tmp_path / "script.py").write_text(
        "import os, sys; print(os.environ['LT_PRECISION'], os.environ['RANK'], sys.argv[1:])"
    )
    done = _lightning("run", "script.py", "--precision", "bf16-mixed", "--x", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bf16-mixed 0 ['--x', '1']" in done.stdout


def test_several_runs_on_one_machine_do_not_meet(tmp_path):
    (tmp_path / "script.py").write_text("print('ran')")
    with socket.socket() as server:
        with contextlib.suppress(OSError):  # taken already: all the better
            server.bind(("", 29400))
            server.listen()
        done = _lightning("run", "script.py", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        done = _lightning("run", "--main-port=29400", "script.py", cwd=tmp_path)
        assert "EADDRINUSE" in done.stderr


def test_lightning_hands_other_calls_to_lightning_sdk(tmp_path):
    done = _lightning("--version", cwd=tmp_path)
    reference = subprocess.run(
        [str(BIN / "lightning-sdk"), "--version"], capture_output=True, text=True
    )
    assert done.returncode == reference.returncode == 0
    assert done.stdout.split()[-1] == reference.stdout.split()[-1]


def test_lightning_without_lightning_sdk_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_lightning_sdk", lambda: None)
    with pytest.raises(SystemExit) as status:
        cli.lightning(["studio", "list"])
    assert status.value.code == 2
    assert "pip install lightning-sdk" in capsys.readouterr().err
    with pytest.raises(SystemExit) as status:
        cli.lightning(["--help"])
    assert status.value.code == 0
    assert "Usage: lightning run FILE" in capsys.readouterr().out
