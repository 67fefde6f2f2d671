import copy
import json

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift, random_shift, rotate, zero_fill_shift
from eqrestore_lightning.nn import RotoTranslationEstimator

TRANSLATION = {"hidden_channels": [3], "kernel_size": [5, 1], "bias": True}
ROTATION = {"num_radii": 4, "num_angles": 12, "hidden_channels": [4], "kernel_size": [5, 1]}


@pytest.fixture
def estimator():
    return RotoTranslationEstimator(1, (12, 14), translation=TRANSLATION, rotation=ROTATION)


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


def test_the_angle_is_that_of_the_centred_image(estimator):
    translation, rotation = estimator.translation, estimator.rotation
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
    labels = torch.randint(0, 3, (5, 1, 12, 14)) * 50
    assert set(estimator.undo_mask(labels, element).unique().tolist()) <= {0, 50, 100}


def test_the_configuration_builds_the_same(estimator):
    config = json.loads(json.dumps(estimator.config))
    twin = RotoTranslationEstimator(**config)
    twin.load_state_dict(estimator.state_dict())
    x = torch.rand(4, 1, 12, 14)
    before = estimator.exact_scores(x)
    assert torch.equal(twin.exact_scores(x), before)
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


def test_rejections():
    with pytest.raises(ValueError, match="Expected `spatial_size` to be two sizes"):
        RotoTranslationEstimator(1, (12,), translation=TRANSLATION, rotation=ROTATION)


def test_training_scores_are_the_exact_ones_up_to_rounding(estimator):
    x = torch.rand(5, 1, 12, 14)
    assert_close(estimator(x).double(), estimator.exact_scores(x), rtol=1e-4, atol=1e-4)
    estimator(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in estimator.parameters())


def test_elements_are_applied_undone_and_told_apart_by_the_loss(estimator):
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
    translation, rotation = estimator.translation, estimator.rotation
    shifts, angles = scores[:, : 12 * 14].reshape(6, 12, 14), scores[:, 12 * 14 :]
    both = translation.loss(shifts, shift) + rotation.loss(angles, element[:, 2:])
    assert_close(estimator.loss(scores, element), both)


def test_corners_are_filled_as_asked(estimator):
    x = 1 + torch.rand(4, 1, 12, 14)
    element = torch.tensor([[2.0, 3.0, 45.0]]).expand(4, 3)
    assert estimator.fill == "zeros"
    assert (estimator.undo(x, element) == 0).any()
    estimator.fill = "border"
    assert (estimator.undo(x, element) >= 1).all()
    assert estimator.config["rotation"]["fill"] == "border"


def test_another_peak_makes_doubtful_and_a_neighbour_does_not(estimator):
    shifts, angles = torch.zeros(3, 12, 14), torch.zeros(3, 12)
    shifts[:, 0, 13], angles[:, 4] = 9.0, 7.0
    shifts[0, 11, 0] = 8.5  # beside the best place, around the corner
    shifts[0, 2, 1] = 8.0  # two pixels off on both axes
    shifts[1, 3, 13] = 6.0  # three pixels off
    angles[2, 10] = 5.0
    scores = torch.cat([shifts.flatten(1), angles], 1)
    assert estimator.margin(scores).tolist() == [7.0, 3.0, 2.0]


def test_a_part_that_tells_nothing_is_noticed(estimator):
    x = torch.rand(4, 1, 12, 14)
    assert not estimator.constant(estimator(x)).any()
    for part in (estimator.rotation, estimator.translation):
        dead = copy.deepcopy(part.state_dict())
        for parameter in part.parameters():
            parameter.data.zero_()
        assert estimator.constant(estimator(x)).all()
        part.load_state_dict(dead)
