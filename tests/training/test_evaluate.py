import re

import pytest
import torch
from torch import nn

from eqrestore_lightning import (
    RestoreTransform,
    RotationEstimator,
    TranslationEstimator,
    evaluate_shifts,
)
from eqrestore_lightning.functional import circular_shift, random_shift
from eqrestore_lightning.training import shift_table


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
        classifier, _data(), restorers={"restored": restore}, max_shifts=(0, 1), progress=False
    )
    plain, restored = results[0::2], results[1::2]
    assert [result.max_shift for result in plain] == [0, 1]
    assert {result.restorer for result in plain} == {"no restorer"}
    assert plain[0].accuracy == plain[0].consistency == plain[0].exact == 1
    assert 0 < plain[1].accuracy < 0.3
    assert plain[1].accuracy == plain[1].exact  # right where the shift happened to be zero
    assert 0.5 < plain[1].consistency < 1
    assert plain[1].stability == plain[1].accuracy * plain[1].consistency
    for result in restored:
        assert result.accuracy == result.consistency == result.exact == 1
    assert classifier.training


def test_a_restorer_that_misplaces_shows_on_unshifted_images():
    estimator = TranslationEstimator(1, (8, 8), hidden_channels=[], kernel_size=3)
    weight = estimator.layers[0].weight
    weight.data.zero_()
    weight.data[0, 0, 0, 1] = 1.0  # the score of a place is the pixel above it
    restorers = {"restored": RestoreTransform(estimator)}
    results = evaluate_shifts(
        _TopLeft(), _data(), restorers=restorers, max_shifts=(0, 3), progress=False
    )
    for result in results[1::2]:
        assert result.accuracy == 0
        assert result.exact == 0
        assert result.consistency == 1  # wrong, but invariant


class _Counting(_TopLeft):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


def test_images_are_classified_once_and_the_results_are_those_of_classifying_all():
    images = torch.rand(30, 1, 8, 8)
    labels = torch.randint(2, (30,))
    restore = RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))
    classifier = _Counting()
    options = {"max_shifts": (2,), "progress": False, "seed": 3}
    results = evaluate_shifts(
        classifier, [(images, labels)], restorers={"restored": restore}, **options
    )
    generator = torch.Generator().manual_seed(3)
    shifts = [random_shift(30, 2, generator=generator) for _ in range(2)]
    moved = [circular_shift(images, shift) for shift in shifts]
    for result, views in zip(results, (moved, [restore(x) for x in moved]), strict=True):
        classes = [_TopLeft()(view).argmax(1) for view in views]
        assert result.accuracy == (classes[0] == labels).double().mean()
        assert result.consistency == (classes[0] == classes[1]).double().mean()
    still = sum((shift == 0).all(1).sum() for shift in shifts)
    moves = (restore.estimate(images) != 0).any(1).sum()
    assert classifier.seen == 30 + (60 - still) + moves


def test_what_enters_is_zeros_or_what_lies_there():
    torch.manual_seed(0)
    images = torch.rand(50, 1, 12, 12) * 0.4
    images[:, :, 2, 2] = 1.0
    batches = [(images, torch.ones(50).long())]
    brightest = TranslationEstimator(1, (8, 8), hidden_channels=[], kernel_size=1)
    brightest.layers[0].weight.data.fill_(1.0)
    options = {"max_shifts": (0, 2), "progress": False}
    crop = evaluate_shifts(
        _TopLeft(), batches, restorers={"r": RestoreTransform(brightest)}, kind="crop", **options
    )
    unshifted, plain, restored = crop[0], crop[2], crop[3]
    assert unshifted.accuracy == 1  # the window of 8 pixels begins at the bright one
    assert plain.accuracy < 0.5
    assert plain.exact == 1  # nothing was wrapped, so nothing is to be moved
    assert plain.accuracy < restored.accuracy < 1  # it is lost where it has left the window
    corner = [(images[..., 2:10, 2:10], torch.ones(50).long())]
    circular, zeros = (
        evaluate_shifts(
            _TopLeft(), corner, restorers={"r": RestoreTransform(brightest)}, kind=kind, **options
        )[3]
        for kind in ("circular", "zeros")
    )
    assert circular.accuracy == circular.exact == 1
    assert 0.2 < zeros.accuracy < 0.7  # the bright pixel leaves to the top and to the left
    assert zeros.accuracy == zeros.exact


def test_results_depend_on_the_seed_only():
    restore = RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))
    options = {"restorers": {"restored": restore}, "max_shifts": (1,), "progress": False}
    first = evaluate_shifts(_TopLeft(), _data(), **options)
    torch.rand(5)
    assert evaluate_shifts(_TopLeft(), _data(), **options) == first
    assert evaluate_shifts(_TopLeft(), _data(), **options, seed=1) != first


def test_rejections():
    restore = RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))
    with pytest.raises(ValueError, match=r"Expected `batches` to hold images, but got none\."):
        evaluate_shifts(_TopLeft(), [], restorers={"restored": restore}, progress=False)
    results = evaluate_shifts(_TopLeft(), _data(), restorers={"restored": restore}, progress=False)
    message = "Expected 9 figures in the row 'paper', but got 2."
    with pytest.raises(ValueError, match=re.escape(message)):
        shift_table(results, reference={"paper": [1.0, 2.0]})
    labels = [(images, 2 * labels) for images, labels in _data()]
    message = "Expected labels below the number of logits, 2, but got 2."
    classifier = _TopLeft().train()
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate_shifts(classifier, labels, restorers={"restored": restore}, progress=False)
    assert classifier.training
    with pytest.raises(ValueError, match="Expected `kind` to be one of"):
        evaluate_shifts(_TopLeft(), _data(), restorers={}, kind="mirror")
    with pytest.raises(ValueError, match="Expected another name for a restorer"):
        evaluate_shifts(_TopLeft(), _data(), restorers={"no restorer": restore})


def test_restorers_of_rotations_are_sent_elsewhere():
    restore = RestoreTransform(RotationEstimator(1, (8, 8), num_radii=3, num_angles=12))
    message = "Expected the restorer 'r' to find shifts alone, but it finds (angle); `evaluate_rot"
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate_shifts(_TopLeft(), _data(), restorers={"r": restore})
