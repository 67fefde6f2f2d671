import itertools
import json
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.motions import Product, QuarterTurn, Shift
from eqrestore_lightning.nn import QuarterTurnEstimator, TranslationEstimator

NETWORK = {"hidden_channels": [3], "kernel_size": [3, 1], "bias": True}
KINDS = list(itertools.product([False, True], [False, True]))  # mirrors, shifts


def _estimator(size=8, **options):
    return QuarterTurnEstimator(2, (size, size), **{**NETWORK, **options})


def _moved(x, mirrors):
    """All four turned images, or all eight with their mirror images, as torch turns them."""
    turned = [torch.rot90(x, quarters, (2, 3)) for quarters in range(4)]
    return turned + [image.flip(3) for image in turned] if mirrors else turned


def _restore(estimator, x):
    return estimator.motion.undo(x, estimator.locate(estimator.exact_scores(x), x))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize(("mirrors", "shifts"), KINDS)
def test_every_element_is_restored_to_the_same_image(mirrors, shifts, size, dtype):
    estimator = _estimator(size, mirrors=mirrors, shifts=shifts)
    x = torch.randint(0, 256, (20, 2, size, size), dtype=torch.uint8).to(dtype)
    restored = _restore(estimator, x)
    for moved in _moved(x, mirrors):
        if shifts:
            moved = circular_shift(moved, torch.randint(-9, 9, (20, 2)))
        assert torch.equal(_restore(estimator, moved), restored)
    if not mirrors:
        assert not torch.equal(_restore(estimator, x.flip(3)), restored)
    if not shifts:
        assert not torch.equal(_restore(estimator, x.roll(1, 2)), restored)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("mirrors", "shifts"), KINDS)
def test_equal_scores_are_decided_by_content(mirrors, shifts, dtype):
    estimator = _estimator(mirrors=mirrors, shifts=shifts)
    for parameter in estimator.parameters():
        parameter.data.zero_()
    x = torch.randint(0, 256, (20, 2, 8, 8), dtype=torch.uint8).to(dtype)
    assert estimator.exact_scores(x).count_nonzero() == 0
    restored = _restore(estimator, x)
    for moved in _moved(x, mirrors):
        assert torch.equal(_restore(estimator, moved), restored)


def test_symmetric_images_are_restored_to_themselves():
    x = torch.rand(3, 2, 8, 8)
    x = x + torch.rot90(x, 2, (2, 3))  # looks the same upside down
    estimator = _estimator(shifts=False)
    restored = _restore(estimator, x)
    for moved in _moved(x, mirrors=False):
        assert torch.equal(_restore(estimator, moved), restored)
    assert (estimator.margin(estimator.exact_scores(x)) == 0).all()


@pytest.mark.parametrize(("mirrors", "shifts"), KINDS)
def test_scores_follow_the_element(mirrors, shifts):
    estimator = _estimator(mirrors=mirrors, shifts=shifts)
    x = torch.rand(40, 2, 8, 8)
    element = estimator.motion.draw(40, (8, 8))
    assert set(element) == {"quarters"} | ({"mirrored"} if mirrors else set()) | (
        {"shift"} if shifts else set()
    )
    assert element["quarters"].unique().tolist() == [0, 1, 2, 3]
    scores = estimator.exact_scores(x).flatten(1)
    moved = estimator.exact_scores(estimator.motion.apply(x, element)).flatten(1)
    here = moved.gather(1, estimator.target(element)[:, None])
    still = estimator.target(estimator.motion.still(40))
    assert torch.equal(here, scores.gather(1, still[:, None]))
    assert torch.equal(moved.sort(1).values, scores.sort(1).values)


@pytest.mark.parametrize(("mirrors", "shifts"), KINDS)
def test_undo_undoes(mirrors, shifts):
    estimator = _estimator(7, mirrors=mirrors, shifts=shifts)
    x = torch.rand(30, 2, 7, 7)
    motion = estimator.motion
    element = motion.draw(30, (7, 7))
    before = x.clone()
    assert torch.equal(motion.undo(motion.apply(x, element), element), x)
    assert torch.equal(x, before)
    one = torch.ones(30, dtype=torch.int64)
    element = {"mirrored": one, "quarters": one, "shift": torch.tensor([[2, -3]]).expand(30, 2)}
    expected = x.roll((2, -3), (2, 3)) if shifts else x
    expected = torch.rot90(expected.flip(3) if mirrors else expected, 1, (2, 3))
    assert torch.equal(motion.apply(x, element), expected)


def test_scores_are_those_of_the_translation_estimator():
    estimator = _estimator(mirrors=True)
    alone = TranslationEstimator(2, (8, 8), **NETWORK)
    alone.load_state_dict(estimator.network.state_dict())
    x = torch.rand(3, 2, 8, 8)
    scores = estimator(x)
    assert scores.shape == (3, 8, 8, 8)
    assert_close(scores[:, 0], alone(x))
    assert_close(scores[:, 1], alone(torch.rot90(x, -1, (2, 3))))
    assert_close(scores[:, 6], alone(torch.rot90(x, -2, (2, 3)).flip(3)))
    plain = _estimator(mirrors=True, shifts=False)
    plain.load_state_dict(estimator.state_dict())
    assert_close(plain(x), scores[:, :, 0, 0])
    assert_close(plain.exact_scores(x), estimator.exact_scores(x)[:, :, 0, 0])


def test_images_that_are_not_finite_stay_as_they_are():
    for mirrors, shifts in KINDS:
        estimator = _estimator(mirrors=mirrors, shifts=shifts)
        x = torch.rand(2, 2, 8, 8)
        x[0, 0, 3, 4] = float("nan")
        found = estimator.locate(estimator.exact_scores(x), x)
        still = estimator.motion.still(1)
        assert found.keys() == still.keys()
        assert all(torch.equal(found[name][:1], value) for name, value in still.items())


def test_empty_batches():
    x = torch.zeros(0, 2, 8, 8)
    estimator = _estimator()
    found = estimator.locate(estimator.exact_scores(x), x)
    assert found["quarters"].shape == (0,)
    assert found["shift"].shape == (0, 2)


def test_config_builds_the_same_estimator():
    estimator = _estimator(mirrors=True, shifts=False)
    twin = QuarterTurnEstimator(**json.loads(json.dumps(estimator.config)))
    twin.load_state_dict(estimator.state_dict())
    x = torch.rand(3, 2, 8, 8)
    assert torch.equal(twin(x), estimator(x))
    assert twin.motion == estimator.motion == QuarterTurn(mirrors=True)
    assert _estimator(mirrors=True).motion == Product(Shift(), QuarterTurn(mirrors=True))
    before = estimator.exact_scores(x)
    estimator.scale_scores(2.0)
    assert_close(estimator.exact_scores(x), 2 * before)


def test_training_does_not_shift():
    motion = _estimator().training_motion
    assert motion == Product(Shift(max_shift=0), QuarterTurn())
    assert motion.draw(9, (8, 8))["shift"].count_nonzero() == 0
    assert _estimator(shifts=False).training_motion == QuarterTurn()


def test_rejections():
    for size in ((8, 9), (8,), (8, 8, 8)):
        message = f"Expected `spatial_size` to be that of a square, but got {size}."
        with pytest.raises(ValueError, match=re.escape(message)):
            QuarterTurnEstimator(2, size, **NETWORK)
    message = "Expected `x` to have shape (batch, 2, 8, 8), but got (3, 2, 9, 9)."
    with pytest.raises(ValueError, match=re.escape(message)):
        _estimator().exact_scores(torch.zeros(3, 2, 9, 9))
