"""Photographs that packages ship."""

import importlib.util

import pytest

from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.data._photographs import find_photographs


def test_no_photograph_is_in_two_splits_and_those_in_color_have_colors():
    train, test, both = (find_photographs(split) for split in ("train", "test", "all"))
    assert list(both) == sorted([*train, *test])
    assert len(both) == len(train) + len(test) == 11
    for path in both.values():
        image = read_image(path)
        assert not image[0].equal(image[1])


def test_photographs_without_colors_are_for_training():
    added = set(find_photographs("train", grayscale=True)) - set(find_photographs("train"))
    assert added == {"brick", "camera", "cell", "coins", "grass", "gravel", "moon"}
    assert find_photographs("test", grayscale=True) == find_photographs("test")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "eqrestore_lightning.data._photographs.find_spec",
        lambda name: None if name == "skimage" else known(name),
    )
    with pytest.raises(FileNotFoundError, match=r"skimage.*pip install scikit-image scikit-learn"):
        find_photographs("test")
    assert list(find_photographs("test", missing_ok=True)) == ["china"]


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"`split` to be one of .*, but got 'val'"):
        find_photographs("val")
