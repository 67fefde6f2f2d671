import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.metrics import Consistency


def test_it_takes_logits_and_classes():
    metric = Consistency()
    metric.update(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    metric.update(torch.tensor([5]), torch.tensor([5]))
    assert_close(metric.compute(), torch.tensor(4 / 5))
    metric.reset()
    metric.update(torch.tensor([1, 2]), torch.tensor([2, 1]))
    assert metric.compute() == 0


def test_other_numbers_of_samples_are_refused():
    with pytest.raises(ValueError, match="to have the same number of samples, but got 4 and 3"):
        Consistency().update(torch.eye(4), torch.tensor([0, 1, 2]))
