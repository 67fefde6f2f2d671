"""Estimators of shifts along some axes only: panoramas, signals, volumes."""

import json
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.motions import Shift
from eqrestore_lightning.nn import TranslationEstimator
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights._files import build_estimator, estimator_config

NETWORK = {"hidden_channels": [3, 2], "kernel_size": [3, "full", 1], "bias": True, "skip": True}
CASES = {  # channels, spatial size, axes
    "panorama": (3, (24, 48), (-1,)),
    "downwards": (3, (24, 48), (-2,)),
    "signal": (2, (31,), (-1,)),
    "volume, two axes": (1, (5, 4, 6), (-3, -1)),
    "volume, two other axes": (1, (5, 4, 6), (-2, -1)),
    "volume, one axis": (2, (5, 4, 6), (-3,)),
}


@pytest.fixture(params=CASES)
def case(request):
    channels, size, axes = CASES[request.param]
    return TranslationEstimator(channels, size, axes=axes, **NETWORK), axes


def _image(estimator, dtype=torch.uint8):
    x = torch.randint(0, 256, (1, estimator.in_channels, *estimator.spatial_size))
    return x.to(dtype)


def _every_shift(x, axes):
    """Return an image in all its places along some axes, and the shifts."""
    places = torch.cartesian_prod(*(torch.arange(x.shape[axis]) for axis in axes))
    places = places.reshape(-1, len(axes))
    return circular_shift(x.expand(len(places), *x.shape[1:]), places, axes=axes), places


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_every_shift_along_the_axes_is_restored_to_the_same_image(case, dtype):
    estimator, axes = case
    restore = RestoreTransform(estimator)
    x = _image(estimator, dtype)
    moved, places = _every_shift(x, axes)
    assert len(moved) == torch.tensor(estimator.shifted_size).prod()
    found = restore.find(moved)
    restored = restore.undo(moved, found)
    assert restored.dtype == dtype
    assert torch.equal(restored, restore(x).expand_as(restored))
    assert torch.equal(restore.redo(restored, found), moved)
    sizes = torch.tensor(estimator.shifted_size)
    shift = found.motion["shift"]
    assert shift.shape == (len(moved), len(axes))
    assert ((shift - shift[:1] - places) % sizes == 0).all()


def test_every_shift_is_restored_to_the_same_image_where_all_scores_tie(case):
    estimator, axes = case
    for parameter in estimator.parameters():
        parameter.data.zero_()
    restore = RestoreTransform(estimator)
    moved, _ = _every_shift(_image(estimator), axes)
    found = restore.find(moved, scores=True)
    assert found.scores.count_nonzero() == 0
    restored = restore.undo(moved, found)
    assert torch.equal(restored, restored[:1].expand_as(restored))


def test_scores_follow_along_the_axes_bit_for_bit(case):
    estimator, axes = case
    x = torch.rand(1, estimator.in_channels, *estimator.spatial_size)
    moved, places = _every_shift(x, axes)
    scores = estimator.exact_scores(moved)
    assert scores.shape == (len(moved), *estimator.shifted_size)
    expected = circular_shift(scores[:1].expand_as(scores).unsqueeze(1), places).squeeze(1)
    assert torch.equal(scores, expected)
    assert_close(estimator(moved).double(), scores, rtol=1e-3, atol=1e-3)


def test_axes_that_do_not_move_are_channels(case):
    estimator, axes = case
    dims = len(estimator.spatial_size)
    still = [axis for axis in range(-dims, 0) if axis not in axes]
    x = torch.rand(4, estimator.in_channels, *estimator.spatial_size)
    order = [0, 1, *(axis + dims + 2 for axis in (*still, *axes))]
    joined = x.permute(order).reshape(4, -1, *estimator.shifted_size)
    alone = TranslationEstimator(joined.shape[1], estimator.shifted_size, **NETWORK)
    alone.load_state_dict(estimator.state_dict())
    assert torch.equal(estimator(x), alone(joined))
    scores = estimator.exact_scores(x)
    assert torch.equal(scores, alone.exact_scores(joined))
    assert_close(estimator.locate(scores, x), alone.locate(scores, joined), rtol=0, atol=0)


@pytest.mark.parametrize("axes", [(-1,), (-2,)])
def test_shifts_along_other_axes_are_not_undone(axes):
    restore = RestoreTransform(TranslationEstimator(3, (24, 48), axes=axes, **NETWORK))
    x = _image(restore.estimator)
    (other,) = {-1, -2} - set(axes)
    assert torch.equal(restore(x.roll(5, axes[0])), restore(x))
    assert not torch.equal(restore(x.roll(5, other)), restore(x))


def test_all_axes_are_the_default():
    estimator = TranslationEstimator(2, (6, 8), kernel_size=3)
    assert estimator.axes == (-2, -1)
    assert estimator.motion == Shift((-2, -1))
    twin = TranslationEstimator(2, (6, 8), axes=[-2, -1], kernel_size=3)
    assert twin.config == estimator.config


def test_the_motion_is_along_the_axes(case):
    estimator, axes = case
    assert estimator.motion == Shift(axes)
    assert estimator.training_motion == Shift(axes, max_shift=0)
    assert estimator.motion.periods(estimator.spatial_size) == {"shift": estimator.shifted_size}


def test_the_configuration_builds_the_same(case):
    estimator, axes = case
    config = json.loads(json.dumps(estimator_config(estimator)))
    assert config["axes"] == list(axes)
    twin = build_estimator(config)
    twin.load_state_dict(estimator.state_dict())
    x = _image(estimator)
    assert torch.equal(twin.exact_scores(x), estimator.exact_scores(x))
    assert twin.motion == estimator.motion


def test_the_loss_is_smallest_at_the_shift_of_the_largest_score(case):
    estimator, axes = case
    x = torch.rand(1, estimator.in_channels, *estimator.spatial_size)
    scores = estimator(x)
    _, places = _every_shift(x, axes)
    losses = torch.stack([estimator.loss(scores, {"shift": place[None]}) for place in places])
    best = estimator.locate(scores, x)
    assert torch.equal(places[losses.argmin()], best["shift"][0] % torch.tensor(
        estimator.shifted_size
    ))  # fmt: skip
    expected = scores.flatten().logsumexp(0) - scores.amax()
    assert_close(losses.min(), expected)


def test_full_kernels_are_as_large_as_the_moving_axes():
    estimator = TranslationEstimator(3, (24, 48), axes=(-1,), kernel_size="full")
    assert {layer.kernel_size for layer in estimator.layers} == {(48,)}
    assert estimator.layers[0].in_channels == 3 * 24


def test_other_axes_are_refused():
    message = "Expected `axes` to be ascending and from (-2, -1), but got (-1, -2)."
    with pytest.raises(ValueError, match=re.escape(message)):
        TranslationEstimator(1, (12, 13), axes=(-1, -2))


def test_kernels_need_to_fit_the_moving_axes_only():
    TranslationEstimator(1, (4, 12), axes=(-1,), kernel_size=9)
    message = "Expected the kernel to span at most the image, 4 pixels, but got 9 taps at dilation"
    with pytest.raises(ValueError, match=re.escape(message)):
        TranslationEstimator(1, (4, 12), axes=(-2,), kernel_size=9)


def test_one_pixel_along_an_axis_has_one_place():
    restore = RestoreTransform(TranslationEstimator(1, (1, 5), axes=(-2,), kernel_size=1))
    x = torch.rand(3, 1, 1, 5)
    found = restore.find(x)
    assert found.margin.isinf().all()
    assert found.trusted.all()
    assert torch.equal(restore(x), x)
