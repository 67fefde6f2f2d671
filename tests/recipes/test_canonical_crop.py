"""What the recipes on photographs share."""

import re

import pytest
import torch


def test_photographs_are_split_by_source(load):
    load_photographs = load("_photographs").load_photographs
    train, test, both = (load_photographs(split) for split in ("train", "test", "all"))
    assert sorted(test) == ["chelsea", "china", "coffee", "rocket"]
    assert not set(train) & set(test)
    assert list(both) == sorted({*train, *test})
    assert "motorcycle_left" in train
    assert "motorcycle_right" in train  # the same source
    assert both["chelsea"].shape == (3, 300, 451)
    assert all(photograph.dtype == torch.uint8 for photograph in both.values())
    message = "Expected `split` to be one of ('train', 'test', 'all'), but got 'val'."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_photographs("val")
