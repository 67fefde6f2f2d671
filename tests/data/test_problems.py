import re

import PIL.Image
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data import (
    ImageFolderDataModule,
    ImageTensors,
    InMemoryDataModule,
    PhotoCropDataModule,
)
from eqrestore_lightning.data._problems import find_problems


def _noise(seed, size=(12, 14), channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator)


def _save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    TF.to_pil_image(picture).save(path)


@pytest.fixture(autouse=True)
def _few_images_are_enough(monkeypatch):
    monkeypatch.setattr("eqrestore_lightning.data._problems._IMAGES", 0)


def test_good_images_have_no_problems(tmp_path, monkeypatch):
    for number in range(30):
        _save(tmp_path / f"{number}.png", _noise(number))
    assert find_problems(ImageFolderDataModule(tmp_path)) == []
    monkeypatch.setattr("eqrestore_lightning.data._problems._IMAGES", 25)
    message = "Only 24 training images; 25 or more are recommended."
    assert find_problems(ImageFolderDataModule(tmp_path)) == [message]


def test_near_blank_images_are_named(tmp_path):
    for number in range(10):
        _save(tmp_path / f"{number}.png", _noise(number))
    nearly = torch.full((3, 12, 14), 200, dtype=torch.uint8)
    nearly[:, 3, 4] += 10  # standard deviation 0.8
    dotted = torch.zeros(3, 12, 14, dtype=torch.uint8)
    dotted[1, 3, 4] = 255  # 20, in one channel
    _save(tmp_path / "black.png", torch.zeros_like(nearly))
    _save(tmp_path / "gray.png", nearly)
    _save(tmp_path / "dotted.png", dotted)
    (found,) = find_problems(ImageFolderDataModule(tmp_path))
    assert re.fullmatch(
        r"2 images are nearly blank, so that no shift can be found: "
        r"(black\.png, gray|gray\.png, black)\.png\. Remove them\.",
        found,
    )


def test_duplicates_are_named_and_those_of_two_splits_told(tmp_path):
    for split, seeds in {"train": (1, 2, 3, 1), "val": (4, 4), "test": (2, 5)}.items():
        for number, seed in enumerate(seeds):
            _save(tmp_path / split / f"{number}.png", _noise(seed))
    assert find_problems(ImageFolderDataModule(tmp_path)) == [
        "3 images are copies of others: train/1.png = test/0.png, train/0.png = train/3.png, "
        "val/0.png = val/1.png. 1 of the images that were copied are in more than one of train, "
        "val and test, so that results will look better than they are."
    ]


def test_too_few_sources_are_told(tmp_path, monkeypatch):
    for name in "abcde":
        for number in range(4):
            _save(tmp_path / f"{name}_{number}.png", _noise(10 * ord(name) + number))
    assert find_problems(ImageFolderDataModule(tmp_path)) == [
        "The 12 training images come from only 3 sources; 20 or more are recommended, or images of "
        "other sources will be restored less well."
    ]
    monkeypatch.setattr("eqrestore_lightning.data._problems._SOURCES", 3)
    assert find_problems(ImageFolderDataModule(tmp_path)) == []


def test_photographs_are_counted(tmp_path):
    for number in range(10):
        _save(tmp_path / f"{number}.png", _noise(number))
    data = PhotoCropDataModule(tmp_path, crop_sizes=[8])
    assert find_problems(data) == [
        "Only 8 training photographs; 20 or more are recommended, or others will be restored less "
        "well."
    ]


class _Signals(InMemoryDataModule):
    in_channels, num_classes, spatial_size, noun = 2, 1, (50,), "signals"

    def load(self):
        signals = 1e-6 * torch.randn(40, 2, 50)
        signals[3] = 0.7e-6
        part = ImageTensors(signals, torch.zeros(40).long())
        return {"train": part, "val": ImageTensors(signals[5:7], part.labels[5:7]), "test": part}


def test_what_is_blank_depends_on_the_range_of_signals():
    blank, copies = find_problems(_Signals())
    assert "2 images are nearly blank, so that no shift can be found: train image 3, test" in blank
    assert re.search(r"^42 images are copies of others: .* = .*, …\. 40 of", copies)


def test_pictures_are_compared_by_their_pixels(tmp_path):
    for number in range(10):
        _save(tmp_path / f"{number}.png", _noise(number))
    PIL.Image.open(tmp_path / "0.png").save(tmp_path / "other.bmp")
    (found,) = find_problems(ImageFolderDataModule(tmp_path))
    assert found.startswith("1 image is a copy of others: ")
