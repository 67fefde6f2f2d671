"""The commands `eqrestore inspect` and `eqrestore audit`."""

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import cli


def _fails(capsys, *arguments):
    with pytest.raises(SystemExit) as status:
        cli.eqrestore([str(argument) for argument in arguments])
    assert status.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    image = torch.randint(0, 256, (3, 9, 14), dtype=torch.uint8)
    pictures = {
        "a.png": image,
        "b.png": image.flip(2),
        "more/c.png": image.roll((2, -3), (1, 2)),
        "more/d.png": image.flip(2),
        "more/e.png": torch.cat([image[..., :7]] * 2, 2),
        "more/f.png": torch.full_like(image, 9),
    }
    for name, picture in pictures.items():
        path = folder / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        TF.to_pil_image(picture).save(path)
    return folder


def test_inspect_names_what_has_no_place(photos, capsys):
    cli.eqrestore(["inspect", str(photos)])
    told = capsys.readouterr().out.splitlines()
    assert set(told[:4]) == {
        "x/more/c.png is x/a.png shifted by 2 down and 11 right.",
        "x/more/d.png is equal to x/b.png.",
        "x/more/e.png is equal to itself shifted by 0 down and 7 right.",
        "x/more/f.png has one colour.",
    }
    assert told[4] == "6 images of 9 x 14 pixels: 1 shifted, 1 periodic, 1 constant, 1 duplicate."
    assert told[5].startswith("No restorer can tell where these belong")
    for name in ("c", "e", "f"):
        (photos / "x" / "more" / f"{name}.png").unlink()
    cli.eqrestore(["inspect", str(photos)])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "x/more/d.png is equal to x/b.png."
    assert told[1] == "3 images of 9 x 14 pixels: 0 shifted, 0 periodic, 0 constant, 1 duplicate."
    assert told[2].startswith("Each has one place")


def test_inspect_tells_user_errors_in_one_line(photos, tmp_path, capsys):
    message = _fails(capsys, "inspect", tmp_path / "none")
    assert "Expected a folder of images, but found none at" in message
    Image.new("RGB", (40, 32)).save(photos / "x" / "wide.png")
    assert "give `image_size`" in _fails(capsys, "inspect", photos)
    cli.eqrestore(["inspect", str(photos), "--image_size=8", "--grayscale=true"])
    assert "7 images of 8 x 8 pixels" in capsys.readouterr().out


def circular():
    return torch.nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")


def test_audit_takes_names_of_torchvision(tmp_path, capsys):
    picture = tmp_path / "new" / "audit.png"
    cli.eqrestore(["audit", "resnet18", "--image_size=64", f"--picture={picture}"])
    printed = capsys.readouterr().out
    assert "| conv1 | Conv2d | 32 × 32 | " in printed
    assert "lost first at conv1 (Conv2d), by stride 2, zero padding: an error of 0." in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    cli.eqrestore(["audit", "resnet18", "--image_size=64"])
    assert capsys.readouterr().out in printed  # the same seed, the same figures


def test_audit_takes_ones_own_network(capsys, monkeypatch, request):
    monkeypatch.chdir(request.path.parent)
    network = "test_cli_inspect:circular"
    cli.eqrestore(["audit", network, "--channels=1", "--image_size=9"])
    assert "No layer loses translation equivariance." in capsys.readouterr().out
    message = _fails(capsys, "audit", network)
    assert f"Expected {network} to take images of shape (1, 3, 224, 224), but got: " in message
    assert "to end in .ckpt or to be package.module:name" in _fails(capsys, "audit", "resnet")
