"""What `find` tells, and the way back: `undo` and `redo` of images, masks and predictions."""

import math
import re

import pytest
import torch
from torch.testing import assert_close
from torchvision import tv_tensors

from eqrestore_lightning.functional import circular_shift, rotate
from eqrestore_lightning.functional._errors import circular_error
from eqrestore_lightning.functional._shift import index_to_shift, random_shift
from eqrestore_lightning.motions import QuarterTurn
from eqrestore_lightning.nn import (
    CopiesEstimator,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)
from eqrestore_lightning.transforms import RestoreTransform

NETWORK = {"hidden_channels": [3], "kernel_size": [3, 1], "bias": True}
ROTATION = {"num_radii": 6, "num_angles": 24, "hidden_channels": [4], "kernel_size": [5, 1]}
EXACT = {  # what these find is undone without interpolation
    "shifts": lambda: TranslationEstimator(2, (12, 10), **NETWORK),
    "shifts along the width": lambda: TranslationEstimator(2, (12, 10), axes=(-1,), **NETWORK),
    "signals": lambda: TranslationEstimator(2, (19,), **NETWORK),
    "volumes": lambda: TranslationEstimator(2, (5, 6, 7), axes=(-3, -1), **NETWORK),
    "quarter turns": lambda: CopiesEstimator(
        2, motion=QuarterTurn(mirrors=True), scorer_options={"channels": [4]}
    ).eval(),
}
TURNING = {
    "rotations": lambda: RotationEstimator(2, (12, 12), **ROTATION),
    "rotations and shifts": lambda: RotoTranslationEstimator(
        2, (12, 11), translation=NETWORK, rotation=ROTATION
    ),
}
KINDS = {**EXACT, **TURNING}
FIELDS = {"shifts": {"shift": 2}, "shifts along the width": {"shift": 1}, "signals": {"shift": 1},
          "volumes": {"shift": 2}, "quarter turns": {"mirrored": 0, "quarters": 0},
          "rotations": {"angle": 0}, "rotations and shifts": {"angle": 0, "shift": 2}}  # fmt: skip


@pytest.fixture(params=KINDS)
def restore(request):
    return RestoreTransform(KINDS[request.param]())


@pytest.fixture(params=EXACT)
def exact(request):
    return RestoreTransform(EXACT[request.param]())


@pytest.fixture(params=TURNING)
def turning(request):
    return RestoreTransform(TURNING[request.param]())


def _size(restore):
    return restore.estimator.spatial_size or (16, 16)


def _images(restore, *batch, dtype=torch.uint8):
    return torch.randint(0, 256, (*batch, 2, *_size(restore)), dtype=torch.uint8).to(dtype)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,), (2, 0)])
def test_what_is_found_has_the_batch_axes_of_the_images(name, batch):
    restore = RestoreTransform(KINDS[name]())
    x = _images(restore, *batch)
    found = restore.find(x, scores=True)
    assert set(found.motion) == set(FIELDS[name])
    for field, columns in FIELDS[name].items():
        value = found.motion[field]
        assert value.shape == (*batch, columns) if columns else value.shape == batch
        assert value.dtype == (torch.float64 if field == "angle" else torch.int64)
    assert found.margin.shape == found.trusted.shape == batch
    assert found.margin.dtype == found.scores.dtype == torch.float64
    assert found.trusted.dtype == torch.bool
    flat = x.reshape(-1, *x.shape[len(batch) :])
    alone = restore.find(flat, scores=True)
    assert torch.equal(found.scores.reshape(alone.scores.shape), alone.scores)
    assert torch.equal(restore(x).reshape(flat.shape), restore(flat))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.int64])
def test_undoing_what_is_found_is_restoring(restore, batch, dtype):
    x = _images(restore, *batch, dtype=dtype)
    before = x.clone()
    found = restore.find(x)
    restored = restore.undo(x, found)
    assert torch.equal(restored, restore(x))
    assert restored.dtype == dtype
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_is_restored_as_if_alone(restore, dtype):
    x = _images(restore, 7, dtype=dtype)
    assert torch.equal(torch.stack([restore(image) for image in x]), restore(x))


def test_corners_are_filled_as_one_chooses():
    estimator = TURNING["rotations"]()
    x = torch.full((1, 2, 12, 12), 200, dtype=torch.uint8)
    x[..., 2:5, 7:11] = 90
    assert RestoreTransform(estimator).find(x).motion["angle"].remainder(90).abs().min() > 1
    black = RestoreTransform(estimator)(x)
    estimator.fill = "border"
    filled = RestoreTransform(estimator)(x)
    assert (black[..., 0, 0] < 200).all()
    assert (filled[..., 0, 0] == 200).all()
    assert torch.equal(black[..., 4:8, 4:8], filled[..., 4:8, 4:8])


def test_scores_are_returned_on_request(restore):
    x = _images(restore, 3)
    assert restore.find(x).scores is None
    scores = restore.estimator.exact_scores(x)
    assert torch.equal(restore.find(x, scores=True).scores, scores)
    assert torch.equal(restore.find(x).margin, restore.estimator.margin(scores))


def test_images_below_the_margin_do_not_move(restore):
    x = _images(restore, 30)
    margin = restore.find(x).margin
    gate = RestoreTransform(restore.estimator, min_margin=float(margin.median()))
    found = gate.find(x)
    assert torch.equal(found.margin, margin)
    assert torch.equal(found.trusted, margin >= margin.median())
    assert 5 < found.trusted.sum() < 30
    for field, value in found.motion.items():
        assert value[~found.trusted].count_nonzero() == 0
        expected = restore.find(x).motion[field]
        assert torch.equal(value[found.trusted], expected[found.trusted])
    assert torch.equal(gate.undo(x, found), gate(x))
    assert torch.equal(gate(x)[~found.trusted], x[~found.trusted])


@pytest.mark.parametrize("min_margin", [0.0, 0.5])
def test_images_that_are_not_finite_do_not_move(restore, min_margin):
    restore.min_margin = min_margin
    x = torch.rand(3, 2, *_size(restore))
    x[0, 0].fill_(math.nan)
    x[1, 1].flatten()[x[1, 1].numel() // 2] = math.inf
    found = restore.find(x)
    assert found.margin[:2].isnan().all()
    assert found.trusted[:2].tolist() == [False, False]
    assert all(value[:2].count_nonzero() == 0 for value in found.motion.values())
    assert_close(restore(x)[:2], x[:2], rtol=0, atol=0, equal_nan=True)
    assert not found.margin[2].isnan()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bool, torch.int64])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (0,)])
def test_redo_is_the_inverse_of_undo(exact, batch, dtype):
    found = exact.find(_images(exact, *batch))
    z = _images(exact, *batch).to(dtype)
    assert torch.equal(exact.redo(exact.undo(z, found), found), z)
    assert torch.equal(exact.undo(exact.redo(z, found), found), z)


def test_redo_puts_back_what_restoring_moved(exact):
    x = _images(exact, 8)
    found = exact.find(x)
    restored = exact(x)
    assert not torch.equal(restored, x)  # the negative control
    assert torch.equal(exact.redo(restored, found), x)


def test_a_prediction_for_each_pixel_follows_the_image():
    restore = RestoreTransform(EXACT["shifts"]())
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 3, 3, padding=1)  # not equivariant: zeros at the border
    x = _images(restore, 6, dtype=torch.float32)
    moved = circular_shift(x, random_shift(6, 5))

    def predict(images):
        found = restore.find(images)
        return restore.redo(network(restore.undo(images, found)).argmax(1), found)

    shift = restore.find(moved).motion["shift"] - restore.find(x).motion["shift"]
    assert torch.equal(predict(moved), circular_shift(predict(x)[:, None], shift)[:, 0])
    alone = network(moved).argmax(1)
    assert not torch.equal(alone, circular_shift(network(x).argmax(1)[:, None], shift)[:, 0])


@pytest.mark.parametrize("maps", [(), (1,), (5,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 2)])
def test_any_number_of_maps_moves_along(restore, batch, maps):
    found = restore.find(_images(restore, *batch))
    size = restore.estimator.spatial_size or (16, 16)
    y = torch.rand(*batch, *maps, *size)
    moved = restore.undo(y, found)
    assert moved.shape == y.shape
    channels = y.reshape(*batch, math.prod(maps), *size)
    assert torch.equal(restore.undo(channels, found).reshape(y.shape), moved)
    assert restore.redo(y, found).shape == y.shape


def test_masks_and_label_maps_are_not_mixed(turning):
    x = _images(turning, 6)
    found = turning.find(x)
    labels = 100 * torch.randint(1, 3, (6, *turning.estimator.spatial_size))
    moved = turning.undo(labels, found)
    assert moved.dtype == torch.int64
    assert set(moved.unique().tolist()) == {0, 100, 200}
    mixed = turning.undo(labels.float(), found)
    assert len(mixed.unique()) > 3  # the negative control
    mask = tv_tensors.Mask(labels.to(torch.uint8))
    moved_mask = turning.undo(mask, found)
    assert isinstance(moved_mask, tv_tensors.Mask)
    assert moved_mask.dtype == torch.uint8
    assert torch.equal(moved_mask.long(), moved)
    assert torch.equal(turning(tv_tensors.Image(x), mask)[1], moved_mask)
    inside = labels == 100
    assert torch.equal(turning.undo(inside, found), moved == 100)
    plain = labels.to(torch.uint8)
    assert len(turning.undo(plain, found).unique()) > 3  # pixels, as far as anyone can tell


def test_rotations_are_redone_by_one_interpolation():
    restore = RestoreTransform(TURNING["rotations"]())
    found = restore.find(_images(restore, 6))
    y = torch.rand(6, 2, 12, 12)
    angle = found.motion["angle"]
    assert torch.equal(restore.redo(y, found), rotate(y, angle))
    assert torch.equal(restore.undo(y, found), rotate(y, -angle))
    labels = (100 * y).long()
    nearest = rotate(labels.double(), angle, interpolation="nearest").long()
    assert torch.equal(restore.redo(labels, found), nearest)


def test_rotations_and_shifts_are_redone_in_the_opposite_order():
    restore = RestoreTransform(TURNING["rotations and shifts"]())
    found = restore.find(_images(restore, 6))
    y = torch.rand(6, 2, 12, 11)
    angle, shift = found.motion["angle"], found.motion["shift"]
    assert torch.equal(restore.redo(y, found), circular_shift(rotate(y, angle), shift))
    assert torch.equal(restore.undo(y, found), rotate(circular_shift(y, -shift), -angle))


def test_gradients_pass_through_undo_and_redo(restore):
    found = restore.find(_images(restore, 3))
    for move in (restore.undo, restore.redo):
        y = torch.rand(3, *_size(restore)).requires_grad_()
        move(y, found).sum().backward()
        assert y.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("batch", "shape"),
    [
        ((), (10,)),
        ((), (12, 11)),
        ((4,), (12, 10)),
        ((4,), (3, 2, 12, 10)),
        ((4,), (4, 10, 12)),
        ((2, 3), (6, 12, 10)),
        ((2, 3), (2, 12, 10)),
    ],
)
def test_maps_of_another_shape_are_refused(batch, shape):
    restore = RestoreTransform(EXACT["shifts"]())
    found = restore.find(_images(restore, *batch))
    restore.undo(torch.zeros(*batch, 12, 10), found)
    expected = ", ".join(map(str, [*batch, "...", 12, 10]))
    message = f"Expected images or maps of shape ({expected}), but got {shape}."
    for move in (restore.undo, restore.redo):
        with pytest.raises(ValueError, match=re.escape(message)):
            move(torch.zeros(shape), found)


def test_rivals_are_the_next_best_motions():
    x = torch.rand(6, 2, 9, 8)
    restore = RestoreTransform(TranslationEstimator(2, (9, 8), kernel_size=3))
    found = restore.find(x, candidates=3, scores=True)
    order = found.scores.flatten(1).sort(1, descending=True)
    for place, each in enumerate((found, *found.rivals)):
        index = order.indices[:, place]
        assert torch.equal(each.motion["shift"], index_to_shift(index, (9, 8)))
    for place, rival in enumerate(found.rivals, 1):
        assert_close(rival.margin, order.values[:, place] - order.values[:, 0])
    assert_close(found.margin, -found.rivals[0].margin)
    assert restore.find(x).rivals == ()


@pytest.mark.parametrize("name", ["mnist-rotation", "mnist-roto-translation"])
def test_rivals_belong_to_other_peaks_and_follow_the_image(name):
    x = torch.rand(2, 4, 1, 32, 32)
    restore = RestoreTransform(name)
    found = restore.find(x, candidates=3)
    assert_close(found.margin, -found.rivals[0].margin)
    assert (found.rivals[1].margin <= found.rivals[0].margin).all()
    for rival in found.rivals:
        assert rival.motion["angle"].shape == rival.margin.shape == (2, 4)
        assert restore.undo(x, rival).shape == x.shape
        errors = restore.estimator.motion.error(
            {name: value.flatten(0, 1) for name, value in rival.motion.items()},
            {name: value.flatten(0, 1) for name, value in found.motion.items()},
            (32, 32),
        )
        apart = errors["angle"] >= 25  # 30° between grid angles, less what lies between them
        if "shift" in errors:
            apart |= (errors["shift"] > 2).any(1)
        assert apart.all()


def test_rivals_follow_quarter_turns():
    x = torch.rand(8, 1, 32, 32)
    restore = RestoreTransform("mnist-rotation")
    (rival,) = restore.find(x, candidates=2).rivals
    (turned,) = restore.find(torch.rot90(x, 1, (2, 3)), candidates=2).rivals
    error = circular_error(turned.motion["angle"], rival.motion["angle"] + 90, (360,))
    assert error.count_nonzero() == 0


def test_where_there_is_no_rival_its_margin_is_infinite():
    x = torch.rand(2, 3, 32, 32)
    rivals = _upright().find(x, candidates=5).rivals
    assert [bool(each.margin.isfinite().all()) for each in rivals] == [True, True, True, False]
    message = "Expected `candidates` to be at least 1, and 1 with a `prior`, but got 2."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _upright(prior=0.5).find(x, candidates=2)


def _upright(**options):
    torch.manual_seed(0)
    estimator = CopiesEstimator(3, scorer_options={"channels": [4]})
    return RestoreTransform(estimator.eval(), **options)


def test_a_prior_adds_its_log_odds_to_no_motion():
    x = torch.rand(200, 3, 32, 32)
    plain = _upright().find(x, scores=True)
    scores = plain.scores - plain.scores.logsumexp(1, keepdim=True)
    spread = float((scores.amax(1) - scores[:, 0]).max())
    restore = _upright(prior=0.3)
    restore.estimator.scale_scores(4 / spread)
    scores = restore.estimator.exact_scores(x)
    posterior = scores.clone()
    posterior[:, 0] += math.log(0.3 / 0.7 * 3)
    best = posterior.topk(2, 1)
    found = restore.find(x)
    assert torch.equal(found.motion["quarters"], best.indices[:, 0])
    assert_close(found.margin, best.values[:, 0] - best.values[:, 1])
    assert 0 < found.motion["quarters"].count_nonzero() < 200
    assert found.motion["quarters"].count_nonzero() != scores.argmax(1).count_nonzero()
    assert torch.equal(restore(x), restore.undo(x, found))


def test_a_strong_prior_leaves_images_as_they_are_and_a_weak_one_changes_nothing():
    x = torch.rand(20, 3, 32, 32)
    assert torch.equal(_upright(prior=1 - 1e-12)(x), x)
    uniform = _upright(prior=0.25)  # four turns, one of which is none
    assert torch.equal(uniform(x), _upright()(x))
    assert not torch.equal(uniform(x), x)


@pytest.mark.parametrize("name", ["digits", "mnist-rotation", "mnist-roto-translation", "photo"])
def test_every_estimator_takes_a_prior(name):
    x = torch.rand(3, 3 if name == "photo" else 1, 32, 32)
    assert torch.equal(
        RestoreTransform(name, prior=1 - 1e-15).find(x).margin > 0, torch.ones(3) > 0
    )
    still = RestoreTransform(name, prior=1 - 1e-15)
    still.estimator.scale_scores(1e-3)
    assert torch.equal(still(x), x)


@pytest.mark.parametrize("prior", [0, 1, -0.5, float("nan")])
def test_priors_that_are_no_share_are_rejected(prior):
    with pytest.raises(ValueError, match=r"^Expected `prior` to be between 0 and 1, but got"):
        RestoreTransform("digits", prior=prior)
