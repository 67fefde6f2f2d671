"""The command `eqrestore export`."""

import subprocess
import sys

import pytest
import torch

from eqrestore_lightning import RestoreTransform


def test_writes_a_file_that_restores(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "restore.onnx"
    # torch's exporter starts threads of autograd, after which this process could not be forked
    command = ["-c", "from eqrestore_lightning import cli; cli.eqrestore()"]
    arguments = ["export", "photo", path, "--height=32", "--width=41"]
    done = subprocess.run([sys.executable, *command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        f"{path}: takes uint8 images of 3 channels, 32 × 41 pixels, any number at a time."
    )
    images = torch.randint(256, (5, 3, 32, 41), dtype=torch.uint8)
    restored = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]
    assert torch.equal(torch.from_numpy(restored), RestoreTransform("photo")(images))


def test_user_errors_are_one_line(tmp_path, fails):
    assert "Expected `output` to end in .onnx" in fails("export", "photo", tmp_path / "photo.pt")
    assert "Expected an estimator for images of any size" in fails(
        "export", "mnist", tmp_path / "mnist.onnx"
    )
    assert not list(tmp_path.iterdir())


def test_says_before_it_works_that_it_cannot_write(tmp_path, fails):
    (tmp_path / "folder.onnx").mkdir()
    message = fails("export", "photo", tmp_path / "folder.onnx")
    assert "Expected `output` to be a file, but" in message
    assert "/proc refuses them" in fails("export", "photo", "/proc/none/x.onnx")
    assert "`--height` to be at least 0" in fails(
        "export", "photo", tmp_path / "x.onnx", "--height=-1"
    )
