import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import negative_share


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int32])
def test_share_of_the_magnitudes_below_zero(dtype):
    x = torch.randint(-50, 100, (3, 2, 7, 5)).to(dtype)
    wide = x.double()
    expected = -wide[wide < 0].sum() / wide.abs().sum()
    assert_close(negative_share(x), expected.float())
    assert_close(negative_share(x * 3), expected.float())
    assert negative_share(x.abs()) == 0
    assert negative_share(-x.abs()) == 1


def test_large_numbers_do_not_overflow():
    x = torch.full((10_000,), 60_000.0).half()
    assert negative_share(x) == 0
    assert negative_share(torch.cat([x, -x])) == 0.5


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(0), torch.tensor([1.0, torch.inf])])
def test_nothing_to_compare(x):
    assert negative_share(x).isnan()
