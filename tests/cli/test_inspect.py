"""The command `eqrestore inspect`."""

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF


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


def test_reports_what_cannot_be_restored(photos, run):
    lines = run("inspect", photos).splitlines()
    assert set(lines[:4]) == {
        "x/more/c.png is x/a.png shifted 2 pixels down and 11 right.",
        "x/more/d.png is equal to x/b.png.",
        "x/more/e.png is equal to itself shifted 0 pixels down and 7 right.",
        "x/more/f.png consists of a single color.",
    }
    assert lines[4] == "6 images of 9 × 14 pixels: 1 shifted, 1 periodic, 1 constant, 1 duplicate."
    assert lines[5].startswith("No restorer can know where these belong")
    for name in ("c", "e", "f"):
        (photos / "x" / "more" / f"{name}.png").unlink()
    lines = run("inspect", photos).splitlines()
    assert lines[0] == "x/more/d.png is equal to x/b.png."
    assert lines[1] == "3 images of 9 × 14 pixels: 0 shifted, 0 periodic, 0 constant, 1 duplicate."
    assert lines[2].startswith("Every image can be restored")


def test_user_errors_are_one_line(photos, tmp_path, run, fails):
    message = fails("inspect", tmp_path / "none")
    assert "Expected a folder of images, but found none at" in message
    Image.new("RGB", (40, 32)).save(photos / "x" / "wide.png")
    assert "set `--image_size`" in fails("inspect", photos)
    assert "7 images of 8 × 8 pixels" in run(
        "inspect", photos, "--image_size=8", "--grayscale=true"
    )
