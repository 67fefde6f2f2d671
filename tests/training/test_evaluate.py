import re

import pytest
import torch
from torch import nn

from eqrestore_lightning import RestoreTransform, TranslationEstimator, evaluate_shifts
from eqrestore_lightning.training import ClassifierModule, shift_table


class _TopLeft(nn.Module):
    """Class 1 where the pixel at the top left is bright: right for unshifted images only."""

    def forward(self, x):
        bright = x[:, 0, 0, 0] > 0.5
        return torch.stack([~bright, bright], dim=1).float()


def _data(count=40):
    images = torch.zeros(count, 1, 8, 8)
    images[:, :, 0, 0] = 1.0
    return [(images[:25], torch.ones(25).long()), (images[25:], torch.ones(count - 25).long())]


def test_a_perfect_restorer_undoes_what_shifts_cost():
    estimator = TranslationEstimator(1, (8, 8), hidden_channels=[], kernel_size=1)
    estimator.layers[0].weight.data.fill_(1.0)  # scores are the image: brightest place
    classifier = _TopLeft().train()
    restore = RestoreTransform(estimator)
    results = evaluate_shifts(
        classifier, _data(), restore=restore, max_shifts=(0, 1), progress=False
    )
    assert [result.max_shift for result in results] == [0, 1]
    assert results[0].accuracy == 1
    assert 0 < results[1].accuracy < 0.3
    assert results[1].accuracy == results[1].consistency
    for result in results:
        assert result.restored_accuracy == 1
        assert result.restored_consistency == 1
        assert result.restored_exactly == 1
    assert classifier.training


def test_a_restorer_that_misplaces_shows_on_unshifted_images():
    estimator = TranslationEstimator(1, (8, 8), hidden_channels=[], kernel_size=3)
    weight = estimator.layers[0].weight
    weight.data.zero_()
    weight.data[0, 0, 0, 1] = 1.0  # the score of a place is the pixel above it
    results = evaluate_shifts(
        _TopLeft(), _data(), restore=RestoreTransform(estimator), max_shifts=(0, 3), progress=False
    )
    for result in results:
        assert result.restored_accuracy == 0
        assert result.restored_exactly == 0
        assert result.restored_consistency == 1  # wrong, but invariant


def test_results_depend_on_the_seed_only():
    restore = RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))
    options = {"restore": restore, "max_shifts": (1,), "progress": False}
    first = evaluate_shifts(_TopLeft(), _data(), **options)
    torch.rand(5)
    assert evaluate_shifts(_TopLeft(), _data(), **options) == first
    assert evaluate_shifts(_TopLeft(), _data(), **options, seed=1) != first


def test_rejections():
    restore = RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))
    with pytest.raises(ValueError, match=r"Expected `batches` to hold images, but got none\."):
        evaluate_shifts(_TopLeft(), [], restore=restore, progress=False)
    results = evaluate_shifts(_TopLeft(), _data(), restore=restore, progress=False)
    message = "Expected 9 figures in the row 'paper', but got 2."
    with pytest.raises(ValueError, match=re.escape(message)):
        shift_table(results, reference={"paper": [1.0, 2.0]})
    labels = [(images, 2 * labels) for images, labels in _data()]
    message = "Expected labels below the number of logits, 2, but got 2."
    classifier = _TopLeft().train()
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate_shifts(classifier, labels, restore=restore, progress=False)
    assert classifier.training
    with pytest.raises(ValueError, match="Expected `learning_rate` to be above 0"):
        ClassifierModule(1, 10, learning_rate=0.0)
