"""Scores become log-probabilities."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eqrestore_lightning import CopiesEstimator, RestoreTransform, TranslationEstimator
from eqrestore_lightning.motions import Shift, Turn
from eqrestore_lightning.training import calibrate


class _RightMostly(nn.Module):
    """Scores the turn that the brightest corner tells, which is right for three images of four."""

    def forward(self, x):
        corners = torch.stack([x[:, 0, 0, 0], x[:, 0, -1, 0], x[:, 0, -1, -1], x[:, 0, 0, -1]], 1)
        return 3.7 * (corners > 0.5).float()


def _images(count=400):
    """A quarter of them have their bright corner elsewhere."""
    x = torch.randint(0, 100, (count, 3, 20, 20)).float()
    x[:, :, 0, 0] = 255
    x[::4] = torch.rot90(x[::4], 2, (2, 3))
    return x


def test_scores_become_log_probabilities():
    estimator = CopiesEstimator(3, scorer_options={"channels": [4]}).eval()
    estimator.scorer = _RightMostly()
    x = _images()
    before = estimator.exact_scores(x)
    factor = calibrate(estimator, x.split(100))
    assert_close(estimator.exact_scores(x), factor * before)
    # one corner of four, right in three of four cases: the odds are 3/4 to 1/12 each
    assert factor * 3.7 == pytest.approx(math.log(0.75 / (0.25 / 3)), rel=0.01)
    assert calibrate(estimator, x.split(100)) == pytest.approx(1, rel=0.01)


def test_a_prior_then_restores_what_is_more_probable():
    estimator = CopiesEstimator(3, scorer_options={"channels": [4]}).eval()
    estimator.scorer = _RightMostly()
    x = _images()
    calibrate(estimator, [x])
    odds = 9.0  # 3/4 against 1/12
    for prior, moves in ((odds / (odds + 3) - 0.02, True), (odds / (odds + 3) + 0.02, False)):
        found = RestoreTransform(estimator, prior=prior).find(x.rot90(1, (2, 3)))
        assert (found.motion["quarters"] != 0).all() == moves


def test_motions_can_be_given_and_factors_are_bounded():
    torch.manual_seed(0)
    estimator = TranslationEstimator(1, (8, 8), kernel_size=3)
    factor = calibrate(estimator, [torch.rand(20, 1, 8, 8)], motion=Shift(max_shift=2), seed=3)
    assert 1 / 20.001 < factor < 20.001


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "Expected at least one image to calibrate with, but got none."),
        ([torch.full((2, 3, 20, 20), torch.nan)], "Expected images with finite scores, but got"),
    ],
)
def test_rejections(batches, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        calibrate(CopiesEstimator(3, motion=Turn(), num_angles=8), batches, motion=Turn())
