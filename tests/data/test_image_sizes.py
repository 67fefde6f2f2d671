"""Read image files, at a size of their own or at another."""

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data._image_files import read_image


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    TF.to_pil_image(torch.randint(0, 256, (3, 41, 67), dtype=torch.uint8)).save(path)
    return path


@pytest.mark.parametrize("side", [1, 24, 41, 80])
def test_a_number_is_the_side_of_a_square_cut_from_the_shorter_side(side, photo):
    expected = TF.center_crop(TF.resize(read_image(photo), [side], antialias=True), [side])
    assert torch.equal(read_image(photo, image_size=side), expected)
    assert torch.equal(read_image(photo, image_size=(side, side)), expected)


@pytest.mark.parametrize("size", [(20, 60), (60, 20), (41, 67), (30, 30), (100, 120)])
def test_the_window_is_covered_and_no_side_is_larger_than_needed(size, tmp_path):
    height, width = 40, 64
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[0] = torch.linspace(0, 255, height).round().to(torch.uint8)[:, None]
    pixels[1] = torch.linspace(0, 255, width).round().to(torch.uint8)
    TF.to_pil_image(pixels).save(tmp_path / "ramps.png")
    image = read_image(tmp_path / "ramps.png", image_size=size)
    assert image.shape == (3, *size)
    down, right = ((channel.max() - channel.min()).item() / 255 for channel in image[:2])
    seen = (size[0] / height, size[1] / width)  # the smaller one is cut to its part of the other
    assert max(down, right) > 0.9
    assert down / right == pytest.approx(seen[0] / seen[1], rel=0.12)


def test_what_is_stored_sideways_is_resized_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "side.jpg", exif=exif)
    assert read_image(tmp_path / "side.jpg").shape == (3, 30, 20)
    assert read_image(tmp_path / "side.jpg", image_size=(15, 10)).shape == (3, 15, 10)
