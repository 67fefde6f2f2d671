import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import lowest_level


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int32])
@pytest.mark.parametrize("shape", [(64,), (3, 2, 17, 8), (5, 1, 6, 7, 9)])
def test_lowest_mean_relative_to_the_largest(dtype, shape):
    x = torch.randint(-50, 80, shape).to(dtype)
    means = torch.stack([run.double().mean() for run in x.flatten().split(64) if len(run) == 64])
    assert_close(lowest_level(x), (means.min() / means.abs().max()).float(), rtol=1e-4, atol=1e-6)
    assert_close(lowest_level(x * 3), lowest_level(x), rtol=1e-4, atol=1e-6)
    assert lowest_level(x.abs()) > 0
    assert lowest_level(-x.abs()) == -1


def test_noise_counts_little_and_a_mean_that_was_subtracted_much():
    x = torch.zeros(8, 1, 28, 28)
    x[:, :, 8:20, 10:18] = 1
    assert lowest_level(x + 0.1 * torch.randn_like(x)) > -0.15
    assert lowest_level(x - x.mean()) < -0.3


def test_large_numbers_do_not_overflow():
    x = torch.full((10_000,), 60_000.0).half()
    assert lowest_level(x) == 1
    assert lowest_level(torch.cat([x, -x])) == -1


@pytest.mark.parametrize(
    "x", [torch.zeros(64), torch.zeros(0), torch.ones(63), torch.tensor([1.0, torch.inf] * 64)]
)
def test_nothing_to_compare(x):
    assert lowest_level(x).isnan()
