import math
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional._errors import (
    circular_error,
    consistency,
    motion_accuracy,
    motion_distance,
)


def test_the_error_takes_the_shorter_way_around_each_column():
    estimated = torch.tensor([[0, 0], [-1, 5], [16, 39]])
    target = torch.tensor([[31, 39], [32, -5], [0, 0]])
    error = circular_error(estimated, target, (32, 40))
    assert error.dtype == torch.int64
    assert error.tolist() == [[1, 1], [1, 10], [16, 1]]


def test_angles_differ_by_the_shorter_way_around():
    estimated = torch.tensor([0.0, -179.0, 359.0, 90.0])
    target = torch.tensor([5.0, 179.0, -1.0, 270.0])
    error = circular_error(estimated, target, (360,))
    assert error.tolist() == [5, 2, 0, 180]
    assert torch.equal(circular_error(target, estimated, (360,)), error)
    assert circular_error(estimated.double(), target.double(), (360,)).dtype == torch.float64


def test_the_error_is_that_of_the_best_of_all_turns():
    estimated, target = torch.randint(-50, 50, (2, 30, 3))
    period = torch.tensor([7, 8, 9])
    turns = torch.arange(-20, 21).reshape(-1, 1, 1) * period
    expected = (estimated - target + turns).abs().amin(0)
    assert torch.equal(circular_error(estimated, target, (7, 8, 9)), expected)


def test_the_distance_is_euclidean():
    distance = motion_distance(torch.tensor([[3, -4]]), torch.tensor([[0, 32]]), (32, 32))
    assert_close(distance, torch.tensor([5.0]))
    angles = torch.tensor([-170.0, 3.0], dtype=torch.float64)
    distance = motion_distance(angles, torch.tensor([175.0, 363.0], dtype=torch.float64), (360,))
    assert_close(distance, torch.tensor([15.0, 0.0], dtype=torch.float64))
    quarters = motion_distance(torch.tensor([0, 3]), torch.tensor([2, 0]), (4,))
    assert_close(quarters, torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize(("tolerance", "right"), [(0, 1), (1, 2), (2, 3), (3.5, 3), (4, 4)])
def test_the_accuracy_counts_by_tolerance_in_every_column(tolerance, right):
    estimated = torch.tensor([[0, 40], [1, 31], [2, 0], [3, -4]])
    target = torch.tensor([[32, 8], [0, 0], [0, 0], [0, 0]])
    found = motion_accuracy(estimated, target, (32, 32), tolerance=tolerance)
    assert found.dtype == torch.bool
    assert found.sum() == right


def test_estimates_that_are_not_numbers_are_wrong():
    estimated, target = torch.tensor([math.nan, 5.0]), torch.tensor([5.0, 5.0])
    assert motion_accuracy(estimated, target, (360,)).tolist() == [False, True]
    assert motion_distance(estimated, target, (360,)).isnan().tolist() == [True, False]


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_empty_batches(shape):
    empty, period = torch.zeros(shape), (4,) * max(1, len(shape[1:]) * 2)
    assert circular_error(empty, empty, period).shape == shape
    assert motion_accuracy(empty, empty, period).shape == (0,)
    assert motion_distance(empty, empty, period).shape == (0,)


def test_shapes_and_periods_that_are_refused():
    values = torch.zeros(3, 2, dtype=torch.int64)
    circular_error(values, values, (4, 4))
    message = (
        "Expected `estimated` and `target` to have the same shape, (batch,) or "
        "(batch, num_columns), but got {} and {}."
    )
    for first, second in (((3, 1), (3, 2)), ((3,), (3, 2)), ((2, 2), (3, 2)), ((3, 2, 1),) * 2):
        with pytest.raises(ValueError, match=re.escape(message.format(first, second))):
            circular_error(torch.zeros(first), torch.zeros(second), (4, 4))
    for columns, period in ((2, (4,)), (1, (4, 4))):
        message = f"Expected `period` to have {columns} entries, one for each column, but got"
        with pytest.raises(ValueError, match=re.escape(f"{message} {period}.")):
            circular_error(values[:, :columns], values[:, :columns], period)


def test_consistency_takes_classes_and_logits():
    logits = torch.eye(3)
    assert consistency(logits, torch.tensor([0, 2, 2])).tolist() == [True, False, True]
    assert consistency(logits, logits).tolist() == [True, True, True]
    message = "Expected `preds` and `target` to have the same number of samples, but got 3 and 2."
    with pytest.raises(ValueError, match=re.escape(message)):
        consistency(logits, torch.tensor([0, 1]))
    message = "Expected `target` to have shape (batch,) or (batch, num_classes), but got (3, 1, 1)."
    with pytest.raises(ValueError, match=re.escape(message)):
        consistency(logits, torch.zeros(3, 1, 1))
