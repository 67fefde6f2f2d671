import copy
import json

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift, rotate
from eqrestore_lightning.functional._shift import random_shift, zero_fill_shift
from eqrestore_lightning.motions import Product, Shift, Turn
from eqrestore_lightning.motions._product import replace_shift
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
    restored = estimator.motion.undo(moved, estimator.locate(scores, moved))
    assert restored.dtype == dtype
    assert torch.equal(restored, restored[:1].expand_as(restored))
    assert torch.equal(estimator.margin(scores), estimator.margin(scores)[:1].expand(len(places)))


def test_the_angle_is_that_of_the_centered_image(estimator):
    translation, rotation = estimator.translation, estimator.rotation
    x = torch.rand(5, 1, 12, 14)
    scores = estimator.exact_scores(x)
    assert scores.shape == (5, 12 * 14 + 12)
    element = estimator.locate(scores, x)
    estimated = estimator.estimate(x)
    assert all(torch.equal(estimated[name], value) for name, value in element.items())
    assert element["angle"].dtype == torch.float64
    shift = translation.locate(translation.exact_scores(x), x)["shift"]
    assert torch.equal(element["shift"], shift)
    centered = circular_shift(x, -shift)
    angle = rotation.locate(rotation.exact_scores(centered), centered)["angle"]
    assert torch.equal(element["angle"], angle)
    assert torch.equal(estimator.motion.undo(x, element), rotate(centered, -angle))
    labels = torch.randint(0, 3, (5, 1, 12, 14)) * 50
    moved = estimator.motion.for_labels().undo(labels, element)
    assert set(moved.unique().tolist()) <= {0, 50, 100}


def test_the_configuration_builds_the_same(estimator):
    config = json.loads(json.dumps(estimator.config))
    twin = RotoTranslationEstimator(**config)
    twin.load_state_dict(estimator.state_dict())
    x = torch.rand(4, 1, 12, 14)
    before = estimator.exact_scores(x)
    assert torch.equal(twin.exact_scores(x), before)
    estimator.scale_scores(2.0)
    assert_close(estimator.exact_scores(x), 2 * before)
    assert twin.motion == estimator.motion == Product(Turn(), Shift())


def test_blank_and_empty_batches(estimator):
    for count in (0, 2):
        x = torch.zeros(count, 1, 12, 14)
        element = estimator.locate(estimator.exact_scores(x), x)
        assert element["angle"].shape == (count,)
        assert element["shift"].shape == (count, 2)
        assert torch.equal(estimator.motion.undo(x, element), x)


def test_shifts_are_followed_exactly(estimator):
    x = torch.rand(6, 1, 12, 14)
    shift = random_shift(6, 5)
    moved = circular_shift(x, shift)
    before, after = (estimator.locate(estimator.exact_scores(y), y) for y in (x, moved))
    difference = after["shift"] - before["shift"] - shift
    assert (difference % torch.tensor([12, 14]) == 0).all()
    assert torch.equal(after["angle"], before["angle"])


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
    motion = replace_shift(estimator.motion, max_shift=4)
    element = motion.draw(6, (12, 14))
    shift, angle = element["shift"], element["angle"]
    assert shift.shape == (6, 2)
    assert shift.abs().max() <= 4
    assert angle.unique().numel() == 6
    assert estimator.motion.periods((12, 14)) == {"shift": (12, 14), "angle": (360,)}
    moved = motion.apply(x, element)
    assert torch.equal(moved, circular_shift(rotate(x, angle), shift))
    filled = replace_shift(motion, fill="zeros").apply(x, element)
    assert torch.equal(filled, zero_fill_shift(rotate(x, angle), shift))
    scores = estimator(moved)
    translation, rotation = estimator.translation, estimator.rotation
    shifts, angles = scores[:, : 12 * 14].reshape(6, 12, 14), scores[:, 12 * 14 :]
    both = translation.loss(shifts, element) + rotation.loss(angles, element)
    assert_close(estimator.loss(scores, element), both)


def test_training_turns_and_does_not_shift(estimator):
    assert estimator.training_motion == Product(Turn(), Shift(max_shift=0))


def test_corners_are_filled_as_asked(estimator):
    x = 1 + torch.rand(4, 1, 12, 14)
    element = {"shift": torch.tensor([[2, 3]]).expand(4, 2), "angle": torch.full((4,), 45.0)}
    assert estimator.fill == "zeros"
    assert (estimator.motion.undo(x, element) == 0).any()
    estimator.fill = "border"
    assert (estimator.motion.undo(x, element) >= 1).all()
    assert estimator.config["rotation"]["fill"] == "border"


def test_another_peak_makes_doubtful_and_a_neighbor_does_not(estimator):
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
