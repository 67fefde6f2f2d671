import json
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift, random_shift, rotate, zero_fill_shift
from eqrestore_lightning.nn import (
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)

TRANSLATION = {"hidden_channels": [3], "kernel_size": [5, 1], "bias": True}
ROTATION = {"num_radii": 4, "num_angles": 12, "hidden_channels": [4], "kernel_size": [5, 1]}


@pytest.fixture
def parts():
    size = (1, (12, 14))
    return TranslationEstimator(*size, **TRANSLATION), RotationEstimator(*size, **ROTATION)


@pytest.fixture
def estimator(parts):
    return RotoTranslationEstimator.join(*parts)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_shift_is_restored_to_the_same_image(estimator, dtype):
    x = torch.randint(0, 256, (1, 1, 12, 14), dtype=torch.uint8).to(dtype)
    places = torch.cartesian_prod(torch.arange(12), torch.arange(14))
    moved = circular_shift(x.expand(len(places), -1, -1, -1), places)
    scores = estimator.exact_scores(moved)
    restored = estimator.undo(moved, estimator.locate(scores, moved))
    assert restored.dtype == dtype
    assert torch.equal(restored, restored[:1].expand_as(restored))
    assert torch.equal(estimator.margin(scores), estimator.margin(scores)[:1].expand(len(places)))


def test_the_angle_is_that_of_the_centred_image(parts, estimator):
    translation, rotation = parts
    x = torch.rand(5, 1, 12, 14)
    scores = estimator.exact_scores(x)
    assert scores.shape == (5, 12 * 14 + 12)
    element = estimator.locate(scores, x)
    assert element.dtype == torch.float64
    shift = translation.locate(translation.exact_scores(x), x)
    assert torch.equal(element[:, :2].long(), shift)
    centred = circular_shift(x, -shift)
    assert torch.equal(element[:, 2:], rotation.locate(rotation.exact_scores(centred), centred))
    assert torch.equal(estimator.undo(x, element), rotate(centred, -element[:, 2]))
    margins = torch.stack(
        [
            translation.margin(translation.exact_scores(x)),
            rotation.margin(rotation.exact_scores(centred)),
        ]
    )
    assert torch.equal(estimator.margin(scores), margins.amin(0))
    labels = torch.randint(0, 3, (5, 1, 12, 14)) * 50
    assert set(estimator.undo_mask(labels, element).unique().tolist()) <= {0, 50, 100}


def test_joined_parts_are_copies_and_save_their_configuration(parts, estimator):
    config = json.loads(json.dumps(estimator.config))
    twin = RotoTranslationEstimator(**config)
    twin.load_state_dict(estimator.state_dict())
    x = torch.rand(4, 1, 12, 14)
    before = estimator.exact_scores(x)
    assert torch.equal(twin.exact_scores(x), before)
    for part in parts:
        for parameter in part.parameters():
            parameter.data.zero_()
    assert torch.equal(estimator.exact_scores(x), before)
    estimator.scale_scores(2.0)
    assert_close(estimator.exact_scores(x), 2 * before)
    assert estimator.element_names == ("down", "right", "angle")


def test_blank_and_empty_batches(estimator):
    for count in (0, 2):
        x = torch.zeros(count, 1, 12, 14)
        element = estimator.locate(estimator.exact_scores(x), x)
        assert element.shape == (count, 3)
        assert torch.equal(estimator.undo(x, element), x)


def test_shifts_are_followed_exactly(estimator):
    x = torch.rand(6, 1, 12, 14)
    shift = random_shift(6, 5)
    moved = circular_shift(x, shift)
    before, after = (estimator.locate(estimator.exact_scores(y), y) for y in (x, moved))
    difference = (after - before)[:, :2].long() - shift
    assert (difference % torch.tensor([12, 14]) == 0).all()
    assert torch.equal(after[:, 2], before[:, 2])


def test_rejections(parts):
    translation, _ = parts
    other = RotationEstimator(1, (14, 14), **ROTATION)
    message = (
        "Expected `rotation` to take images of shape (1, (12, 14)), as `translation`, "
        "but got (1, (14, 14))."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        RotoTranslationEstimator.join(translation, other)
    with pytest.raises(ValueError, match="Expected `spatial_size` to be two sizes"):
        RotoTranslationEstimator(1, (12,), translation=TRANSLATION, rotation=ROTATION)


def test_training_scores_are_the_exact_ones_up_to_rounding(estimator):
    x = torch.rand(5, 1, 12, 14)
    assert_close(estimator(x).double(), estimator.exact_scores(x), rtol=1e-4, atol=1e-4)
    estimator(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in estimator.parameters())


def test_elements_are_applied_undone_and_told_apart_by_the_loss(parts, estimator):
    x = torch.rand(6, 1, 12, 14)
    element = estimator.random_element(6, max_shift=4)
    assert element.shape == (6, 3)
    assert element[:, :2].abs().max() <= 4
    assert element[:, 2].unique().numel() == 6
    assert torch.equal(element[:, :2], element[:, :2].round())
    assert estimator.periods == (12, 14, 360)
    shift, angle = element[:, :2].long(), element[:, 2]
    moved = estimator.apply_element(x, element)
    assert torch.equal(moved, circular_shift(rotate(x, angle), shift))
    filled = estimator.apply_element(x, element, shift=zero_fill_shift)
    assert torch.equal(filled, zero_fill_shift(rotate(x, angle), shift))
    scores = estimator(moved)
    translation, rotation = parts
    shifts, angles = scores[:, : 12 * 14].reshape(6, 12, 14), scores[:, 12 * 14 :]
    both = translation.loss(shifts, shift) + rotation.loss(angles, element[:, 2:])
    assert_close(estimator.loss(scores, element), both)
