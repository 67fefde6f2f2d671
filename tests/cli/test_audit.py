"""The command `eqrestore audit`."""

_CIRCULAR = """
import torch

def circular():
    return torch.nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
"""


def test_takes_names_of_torchvision(tmp_path, run):
    picture = tmp_path / "new" / "audit.png"
    printed = run("audit", "resnet18", "--image_size=64", f"--picture={picture}")
    assert "| conv1 | Conv2d | 32 × 32 | " in printed
    assert (
        "first lost at conv1 (Conv2d), because of stride 2, zero padding: a shift by one pixel "
        "leads to a relative error of 0."
    ) in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("audit", "resnet18", "--image_size=64") in printed  # the same seed


def test_takes_ones_own_network(tmp_path, monkeypatch, run, fails):
    (tmp_path / "networks_of_audit.py").write_text(_CIRCULAR)
    monkeypatch.chdir(tmp_path)
    network = "networks_of_audit:circular"
    printed = run("audit", network, "--channels=1", "--image_size=9")
    assert "No layer loses translation equivariance." in printed
    message = fails("audit", network)
    assert f"Expected {network} to take images of shape (1, 3, 224, 224), but got: " in message
    assert "to end in .ckpt or to be package.module:name" in fails("audit", "resnet")


def test_the_picture_ends_in_png(fails, tmp_path):
    message = fails("audit", "resnet18", f"--picture={tmp_path / 'audit'}")
    assert f"Expected `--picture` to end in .png, but got {tmp_path / 'audit'}." in message
