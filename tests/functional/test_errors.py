import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import (
    circular_shift_distance,
    circular_shift_error,
    same_class,
)


def test_error_takes_the_shorter_way_around_each_axis():
    estimated = torch.tensor([[0, 0], [-1, 5], [16, 39]])
    target = torch.tensor([[31, 39], [32, -5], [0, 0]])
    error = circular_shift_error(estimated, target, (32, 40))
    assert error.tolist() == [[1, 1], [1, 10], [16, 1]]


def test_error_is_symmetric_and_periodic():
    first, second = torch.randint(-50, 50, (2, 30, 3))
    size = (7, 8, 9)
    expected = circular_shift_error(first, second, size)
    assert torch.equal(circular_shift_error(second, first, size), expected)
    assert torch.equal(circular_shift_error(first + torch.tensor(size), second, size), expected)


def test_distance_is_euclidean():
    distance = circular_shift_distance(torch.tensor([[3, -4]]), torch.tensor([[0, 32]]), (32, 32))
    assert_close(distance, torch.tensor([5.0]))


def test_error_rejects_other_shapes():
    message = (
        "Expected `estimated` and `target` to have shape (batch, 2), but got (3, 1) and (3, 2)."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        circular_shift_error(
            torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), (4, 4)
        )


def test_same_class_takes_classes_and_logits():
    logits = torch.eye(3)
    assert same_class(logits, torch.tensor([0, 2, 2])).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="Expected `preds` and `target` to have the same number"):
        same_class(logits, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=re.escape("Expected `target` to have shape (batch,) or")):
        same_class(logits, torch.zeros(3, 1, 1))
