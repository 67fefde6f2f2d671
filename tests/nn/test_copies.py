import itertools
import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from eqrestore_lightning import load_estimator, save_estimator
from eqrestore_lightning.functional import rotate
from eqrestore_lightning.motions import QuarterTurn, Turn
from eqrestore_lightning.nn import CopiesEstimator, _turned_copies as module, register_scorer
from eqrestore_lightning.nn._scorers import _SCORERS, build_scorer

SMALL = {"scorer_options": {"channels": [4, 6]}}
MIRRORS = {"motion": QuarterTurn(mirrors=True)}
ANGLES = {"motion": Turn(fill="border"), "num_angles": 24}
KINDS = [{}, MIRRORS, ANGLES]


def _estimator(**options):
    return CopiesEstimator(3, **{**SMALL, **options}).eval()


def _restore(estimator, x):
    return estimator.motion.undo(x, estimator.estimate(x))


def _images(count, *size):
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [32, 33, 150])
@pytest.mark.parametrize("options", KINDS)
def test_every_quarter_turn_is_restored_to_the_same_image(options, size, dtype):
    estimator = _estimator(**options)
    x = _images(12, size, size).to(dtype)
    x[0] = 7  # constant
    x[1] = x[1] + torch.rot90(x[1], 2, (1, 2))  # looks the same upside down
    x[2] = x[2].maximum(x[2].flip(2))
    if size == 150:  # the network sees an average that looks the same upside down
        x[3] = 128
        x[3, :, 0, 0], x[3, :, 0, 1], x[3, :, -1, -1], x[3, :, -1, -2] = 0, 255, 1, 254
    restored = _restore(estimator, x)
    for quarters in range(4):
        moved = torch.rot90(x, quarters, (2, 3))
        assert torch.equal(_restore(estimator, moved), restored)
        if estimator.grid.mirrors:
            assert torch.equal(_restore(estimator, moved.flip(3)), restored)


@pytest.mark.parametrize("options", [{}, MIRRORS])
def test_scores_follow_the_element(options):
    estimator = _estimator(**options)
    turn = estimator.motion
    x = _images(10, 40, 40)
    still = estimator.exact_scores(x)
    for index in range(turn.num_copies):
        element = turn.from_index(torch.full((10,), index))
        moved = estimator.exact_scores(turn.apply(x, element))
        assert torch.equal(moved[:, index], still[:, 0])
        assert torch.equal(moved.sort(1).values, still.sort(1).values)


def test_all_copies_are_averages_of_aligned_scores():
    estimator = _estimator()
    x = torch.rand(5, 3, 32, 32, dtype=torch.float64)
    levels = (x - x.amin((1, 2, 3), keepdim=True)) / (
        x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)
    )
    expected = torch.zeros(5, 4)
    for quarters in range(4):
        copy = torch.rot90((levels * 255).round().float() / 255, -quarters, (2, 3))
        expected += estimator.scorer(copy).roll(quarters, 1) / 4
    assert_close(estimator.exact_scores(x), expected.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, MIRRORS])
@pytest.mark.parametrize("size", [(40, 56), (200, 131)])
def test_images_that_are_not_square_are_restored_one_by_one(size, options):
    estimator = _estimator(**options)
    x = _images(6, *size)
    still = estimator.exact_scores(x)
    for quarters in range(4):
        moved = torch.rot90(x, quarters, (2, 3))
        scores = estimator.exact_scores(moved)
        assert torch.equal(scores.sort(1).values, still.sort(1).values)
        for one, other in zip(x.split(1), moved.split(1), strict=True):
            assert torch.equal(_restore(estimator, one), _restore(estimator, other))
    turned = torch.cat([x, x.flip(2).flip(3), x.flip(3)])
    if len(set((estimator.estimate(turned)["quarters"] % 2).tolist())) == 2:
        with pytest.raises(ValueError, match="pass such images one by one, or crop them"):
            _restore(estimator, turned)


def test_what_is_looked_at_is_hashed_and_images_only_where_that_is_symmetric(monkeypatch):
    hashed = []
    content_hash = module.content_hash
    monkeypatch.setattr(
        module, "content_hash", lambda x, w: hashed.append(tuple(x.shape)) or content_hash(x, w)
    )
    x = _images(5, 150, 150)
    _estimator().estimate(x)
    assert hashed == [(5, 3, 64, 64)] * 4
    hashed.clear()
    x[2] = 7
    _estimator().exact_scores(x)
    assert hashed == [(5, 3, 64, 64)] * 4 + [(1, 3, 150, 150)] * 4


def test_the_corners_do_not_tell_angles():
    x = _images(8, 41, 41)
    places = torch.arange(41) - 20
    corners = places.unsqueeze(1) ** 2 + places**2 > 20**2
    estimator = _estimator(**ANGLES)
    scores = estimator.exact_scores(x)
    for fill in (0, 255, 93):
        assert torch.equal(estimator.exact_scores(x.masked_fill(corners, fill)), scores)
    quarters = _estimator()  # has none that turning would bring in, and looks at all pixels
    assert not torch.equal(
        quarters.exact_scores(x.masked_fill(corners, 0)), quarters.exact_scores(x)
    )


@pytest.mark.parametrize(
    ("size", "resolution"), [((100, 100), 64), ((97, 160), 64), ((64, 70), 32)]
)
def test_large_images_are_reduced_by_averages_over_windows(size, resolution):
    class Shape(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean((1, 2, 3)).unsqueeze(1).expand(-1, 4)

    seen = []
    estimator = _estimator(resolution=resolution)
    estimator.scorer = Shape()
    x = _images(2, *size)
    x[:, :, 0, 0], x[:, :, -1, -1] = 0, 255
    estimator.exact_scores(x)
    short = min(size)
    expected = F.adaptive_avg_pool2d(x.double(), [round(s * resolution / short) for s in size])
    candidates = [torch.rot90(expected, quarters, (2, 3)) / 255 for quarters in range(4)]
    fitting = [each for each in candidates if each.shape[2:] == seen[0].shape[2:]]
    error = torch.stack([(each - seen[0]).abs().amax((1, 2, 3)) for each in fitting]).amin(0)
    assert (error <= 0.51 / 255).all()


def test_training_looks_at_the_image_as_it_comes_and_reaches_the_network():
    estimator = _estimator(**ANGLES).train()
    x = torch.rand(4, 3, 32, 32)
    scores = estimator(x)
    assert scores.shape == (4, 24)
    estimator.loss(scores, {"angle": torch.tensor([0.0, 20.0, 77.0, 300.0])}).backward()
    assert all(each.grad is not None for each in estimator.parameters())
    assert estimator.training_motion == estimator.motion == Turn(fill="border")


def test_exact_scores_never_depend_on_other_images_nor_change_the_network():
    estimator = _estimator().train()
    x = _images(6, 32, 32)
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    scores = estimator.exact_scores(x)
    assert estimator.scorer.training
    assert_close(estimator.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(estimator.eval().exact_scores(x), scores)
    assert_close(estimator.exact_scores(x[:2]), scores[:2])


def test_a_network_of_the_user_is_trained_saved_and_loaded(tmp_path):
    @register_scorer
    class Pooled(nn.Module):
        def __init__(self, in_channels, num_scores, *, places=2):
            super().__init__()
            self.norm = nn.BatchNorm2d(in_channels)
            self.pool = nn.AdaptiveAvgPool2d(places)
            self.head = nn.Linear(in_channels * places**2, num_scores)

        def forward(self, x):
            return self.head(self.pool(self.norm(x)).flatten(1))

    try:
        estimator = CopiesEstimator(3, **MIRRORS, scorer="Pooled", scorer_options={"places": 3})
        estimator(torch.rand(8, 3, 32, 32))  # moves the statistics of the batch norm
        estimator.eval().scale_scores(2.5)
        save_estimator(estimator, tmp_path / "own.safetensors")
        loaded = load_estimator(tmp_path / "own.safetensors")
        x = _images(4, 32, 32)
        assert torch.equal(loaded.exact_scores(x), estimator.exact_scores(x))
        assert json.loads(json.dumps(loaded.config)) == estimator.config
    finally:
        del _SCORERS["Pooled"]
    with pytest.raises(ValueError, match=r"Expected `scorer` to be one of .*but got 'Pooled'"):
        load_estimator(tmp_path / "own.safetensors")


def test_weights_can_be_rounded_to_half_the_size(tmp_path):
    estimator = _estimator()
    save_estimator(estimator, tmp_path / "whole.safetensors")
    save_estimator(estimator, tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]
    x = _images(4, 32, 32)
    rounded = _estimator()
    rounded.load_state_dict({name: each.half() for name, each in estimator.state_dict().items()})
    assert torch.equal(
        load_estimator(tmp_path / "half.safetensors").exact_scores(x), rounded.exact_scores(x)
    )


def test_a_residual_scorer_has_channels():
    with pytest.raises(ValueError, match=r"^Expected `channels` to be numbers of at least 1"):
        build_scorer("ResidualScorer", 3, 4, channels=[])


def test_a_scorer_of_another_shape_is_told():
    estimator = _estimator()
    estimator.scorer = nn.Flatten()
    message = "Expected the scorer to return scores of shape (2, 4), but got (2, 3072)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimator.exact_scores(_images(2, 32, 32))


@pytest.mark.parametrize("options", KINDS)
def test_images_that_are_not_finite_are_left_alone(options):
    estimator = _estimator(**options)
    x = torch.rand(3, 3, 32, 32)
    x[0, 0, 3, 5], x[1, 1, 20, 20] = torch.nan, torch.inf
    assert all(value[:2].tolist() == [0, 0] for value in estimator.estimate(x).values())
    assert estimator.margin(estimator.exact_scores(x)).isfinite().tolist() == [False, False, True]


def test_fine_angles_are_found_between_those_of_the_grid():
    class Brightest(nn.Module):
        """Scores the direction in which the bright spot of an image lies."""

        def forward(self, x):
            places = torch.linspace(-1, 1, x.shape[3])
            mass = x.mean(1) - x.mean(1).amin((1, 2), keepdim=True)
            up = -(mass.sum(2) * places).sum(1)
            right = (mass.sum(1) * places).sum(1)
            angle = torch.atan2(up, right) - torch.pi / 2
            steps = torch.arange(24) * (2 * torch.pi / 24)
            return 50 * torch.cos(angle.unsqueeze(1) - steps)

    x = torch.zeros(7, 3, 65, 65)
    x[:, :, 6:14, 28:37] = 1.0  # above the center
    angles = torch.tensor([0.0, 15.0, 22.0, -100.0, 177.5, 90.0, -38.0])
    estimator = _estimator(**ANGLES)
    estimator.scorer = Brightest()
    found = estimator.estimate(rotate(x, angles))["angle"]
    assert_close(found, angles.double(), atol=1.0, rtol=0)
    estimator.grid.sub_grid = False
    assert (estimator.estimate(rotate(x, angles))["angle"] % 15 == 0).all()
    assert estimator.margin(estimator.exact_scores(x)).gt(0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "Expected `in_channels` to be at least 1, but got 0."),
        (
            {"motion": Turn(), "num_angles": 6},
            "Expected `num_angles` to be a multiple of 4, but got 6.",
        ),
        ({"num_angles": 8}, "Expected `num_angles` to be 4 for a QuarterTurn, but got 8."),
        (
            {"motion": {"kind": "Shift"}},
            "Expected `motion` to be a QuarterTurn or a Turn, but got Shift(axes=(-2, -1), "
            "max_shift=None, fill='circular').",
        ),
        ({"resolution": 8}, "Expected `resolution` to be from 16 to 256, but got 8."),
    ],
)
def test_rejections(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CopiesEstimator(**{"in_channels": 3, **SMALL, **options})


@pytest.mark.parametrize("shape", list(itertools.product([(2, 1), (2, 3)], [(15, 32), (32, 32)])))
def test_images_of_another_shape_are_rejected(shape):
    x = torch.zeros(*shape[0], *shape[1])
    if x.shape == (2, 3, 32, 32):
        assert _estimator().exact_scores(x).shape == (2, 4)
        assert _estimator().exact_scores(x[:0]).shape == (0, 4)
    else:
        with pytest.raises(ValueError, match=r"^Expected"):
            _estimator().exact_scores(x)
