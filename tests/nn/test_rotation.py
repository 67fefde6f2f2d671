import json
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift, rotate, to_polar
from eqrestore_lightning.functional._errors import circular_error
from eqrestore_lightning.motions import Turn
from eqrestore_lightning.nn import RotationEstimator, TranslationEstimator

NETWORK = {
    "num_radii": 6,
    "num_angles": 24,
    "hidden_channels": [4, 4],
    "kernel_size": [5, 5, 1],
    "bias": True,
    "skip": True,
}


def _estimator(in_channels=2, size=(16, 16), **options):
    return RotationEstimator(in_channels, size, **{**NETWORK, **options})


def _restore(estimator, x):
    return estimator.motion.undo(x, estimator.locate(estimator.exact_scores(x), x))


def _found(estimator, x):
    return estimator.locate(estimator.exact_scores(x), x)["angle"]


def _error(angle, expected):
    return circular_error(angle, torch.tensor([expected], dtype=torch.float64), (360,)).item()


def _probe(offset, *, sub_grid=True, num_angles=24):
    """An estimator that scores by brightness alone, and images bright at one angle."""
    estimator = RotationEstimator(
        1,
        (33, 33),
        num_radii=3,
        num_angles=num_angles,
        max_radius=12,
        sub_grid=sub_grid,
        hidden_channels=[],
        kernel_size=1,
    )
    for parameter in estimator.parameters():
        parameter.data.fill_(1.0)
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    direction_rad = torch.deg2rad(torch.tensor(offset))
    towards = (columns * torch.cos(direction_rad) - rows * torch.sin(direction_rad)) / 16
    return estimator, torch.exp(3 * towards)[None, None]


@pytest.mark.parametrize("angle", [0.0, 15.0, 97.0, 179.0, -142.0])
def test_angles_are_degrees_counter_clockwise(angle):
    estimator, x = _probe(angle)
    found = _found(estimator, x)
    assert found.shape == (1,)
    assert found.dtype == torch.float64
    assert _error(found, angle) < 0.6


def test_the_parabola_finds_what_lies_between_grid_angles():
    for angle in (3.0, 20.0, 100.0):
        estimator, x = _probe(angle)
        on_grid, _ = _probe(angle, sub_grid=False)
        scores = estimator.exact_scores(x)
        nearest = on_grid.locate(scores, x)["angle"]
        assert nearest.item() == 15.0 * round(angle / 15)
        error = _error(estimator.locate(scores, x)["angle"], angle)
        assert error < 0.2 * _error(nearest, angle)


@pytest.mark.parametrize("size", [(16, 16), (15, 15), (14, 19)])
def test_scores_follow_on_the_polar_grid_bit_for_bit(size):
    estimator = _estimator(size=size)
    polar = to_polar(torch.rand(1, 2, *size).double(), num_radii=6, num_angles=24)
    steps = torch.arange(24)[:, None]
    rolled = circular_shift(polar.expand(24, -1, -1, -1), steps, axes=(-1,))
    scores = estimator.network.exact_scores(rolled)
    expected = circular_shift(scores[:1].expand(24, -1).unsqueeze(1), steps).squeeze(1)
    assert torch.equal(scores, expected)
    found = estimator.network.locate(scores, rolled)["shift"]
    assert ((found - found[:1] - steps) % 24 == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [16, 15])
@pytest.mark.parametrize("sub_grid", [True, False])
def test_quarter_turns_are_restored_to_the_same_image(dtype, size, sub_grid):
    estimator = _estimator(size=(size, size), sub_grid=sub_grid)
    x = torch.randint(0, 256, (30, 2, size, size), dtype=torch.uint8).to(dtype)
    restored = _restore(estimator, x)
    assert restored.dtype == dtype
    for quarters in (1, 2, 3):
        turned = torch.rot90(x, quarters, (2, 3))
        assert torch.equal(_restore(estimator, turned), restored)
        difference = _found(estimator, turned) - _found(estimator, x)
        assert (difference % 360 == 90 * quarters).all()


def test_quarter_turns_that_the_grid_does_not_hold_are_not_followed_exactly():
    estimator = _estimator(num_angles=22)
    x = torch.rand(30, 2, 16, 16)
    assert not torch.equal(_restore(estimator, torch.rot90(x, 1, (2, 3))), _restore(estimator, x))


def test_equal_scores_are_decided_by_content():
    estimator = _estimator()
    for parameter in estimator.parameters():
        parameter.data.zero_()
    x = torch.rand(8, 2, 16, 16)
    turned = torch.rot90(x, 1, (2, 3))
    assert estimator.exact_scores(x).count_nonzero() == 0
    assert torch.equal(_restore(estimator, turned), _restore(estimator, x))
    assert _found(estimator, x).unique().numel() > 1


def test_a_ring_is_restored_to_itself_by_quarters():
    estimator = _estimator(in_channels=1, size=(17, 17))
    steps = torch.arange(17.0) - 8
    x = torch.exp(-(((steps[:, None] ** 2 + steps**2).sqrt() - 5) ** 2))[None, None]
    assert estimator.margin(estimator.exact_scores(x)) < 1e-6
    assert torch.equal(_restore(estimator, torch.rot90(x, 1, (2, 3))), _restore(estimator, x))


def test_undo_turns_back_the_original_once():
    estimator = _estimator(fill="border")
    x = torch.rand(3, 2, 16, 16)
    angle = torch.tensor([10.0, -75.0, 200.0], dtype=torch.float64)
    element = {"angle": angle}
    assert estimator.motion == Turn(fill="border")
    assert torch.equal(estimator.motion.undo(x, element), rotate(x, -angle, fill="border"))
    assert torch.equal(estimator.motion.apply(x, element), rotate(x, angle, fill="border"))
    labels = torch.randint(0, 5, (3, 1, 16, 16)) * 50
    moved = estimator.motion.for_labels().undo(labels, element)
    assert set(moved.unique().tolist()) <= {0, 50, 100, 150, 200}
    estimator.fill = "zeros"
    assert torch.equal(estimator.motion.undo(x, element), rotate(x, -angle))


def test_exact_scores_are_close_to_the_scores():
    estimator = _estimator()
    x = torch.rand(4, 2, 16, 16)
    scores = estimator(x)
    assert scores.dtype == torch.float32
    exact = estimator.exact_scores(x)
    assert exact.dtype == torch.float64
    assert_close(exact.float(), scores, rtol=1e-3, atol=1e-3 * float(scores.detach().abs().max()))
    pixels = (255 * x).to(torch.uint8)
    assert_close(estimator.exact_scores(pixels), estimator.exact_scores(pixels.double() / 255))
    assert torch.equal(estimator.exact_scores(pixels), estimator.exact_scores(pixels.double()))


def test_the_margin_looks_beyond_the_peak():
    estimator = _estimator()  # 15° a step: rivals are two steps away or more
    scores = torch.zeros(3, 24)
    scores[:, 5] = 9.0
    scores[0, 6] = 8.5
    scores[1, 7] = 8.5
    scores[2, 17] = 4.0
    assert estimator.margin(scores).tolist() == [9.0, 0.5, 5.0]
    assert torch.equal(estimator.margin(scores.roll(20, 1)), estimator.margin(scores))
    assert _estimator(num_angles=1, kernel_size=1).margin(torch.zeros(2, 1)).isinf().all()


def test_images_that_are_not_finite_stay_as_they_are():
    estimator = _estimator()
    x = torch.rand(2, 2, 16, 16)
    x[0, 0, 8, 8] = float("nan")
    scores = estimator.exact_scores(x)
    assert estimator.margin(scores).isnan().tolist() == [True, False]
    assert estimator.locate(scores, x)["angle"][0] == 0


@pytest.mark.parametrize("num_angles", [1, 2, 3, 24])
def test_few_angles_and_empty_batches(num_angles):
    estimator = _estimator(num_angles=num_angles, kernel_size=1)
    x = torch.rand(3, 2, 16, 16)
    found = _found(estimator, x)
    assert found.shape == (3,)
    assert ((found >= -180) & (found < 180)).all()
    assert _found(estimator, x[:0]).shape == (0,)


def test_an_angle_between_two_of_the_grid_belongs_to_both():
    estimator = _estimator()
    scores = torch.randn(5, 24)
    angles = torch.tensor([0.0, 30.0, 33.0, 357.0, -6.0])
    expected = torch.zeros(5, 24)
    for row, (place, share) in enumerate([(0, 1.0), (2, 1.0), (2, 0.8), (23, 0.2), (23, 0.4)]):
        expected[row, place] = share
        expected[row, (place + 1) % 24] += 1 - share
    loss = -(expected * scores.log_softmax(1)).sum(1).mean()
    assert_close(estimator.loss(scores, {"angle": angles}), loss)


def test_training_turns_images_by_any_angle():
    assert _estimator().training_motion == _estimator().motion == Turn()


@pytest.mark.parametrize("sub_grid", [True, False])
def test_it_is_a_translation_estimator_of_polar_images(sub_grid):
    estimator = _estimator(sub_grid=sub_grid)
    options = {name: NETWORK[name] for name in ("hidden_channels", "kernel_size", "bias", "skip")}
    alone = TranslationEstimator(2, (6, 24), axes=(-1,), **options)
    alone.load_state_dict(estimator.network.state_dict())
    x = torch.rand(9, 2, 16, 16)
    polar = to_polar(x, num_radii=6, num_angles=24)
    assert torch.equal(estimator(x), alone(polar))
    polar = to_polar(x.double(), num_radii=6, num_angles=24)
    scores = estimator.exact_scores(x)
    assert torch.equal(scores, alone.exact_scores(polar))
    grid = 15.0 * alone.locate(scores, polar)["shift"][:, 0]
    error = circular_error(estimator.locate(scores, x)["angle"], grid, (360,))
    assert (error <= (7.5 if sub_grid else 0)).all()


def test_config_builds_the_same_estimator():
    estimator = _estimator(max_radius=5.5, sub_grid=False, fill="reflection")
    config = json.loads(json.dumps(estimator.config))
    twin = RotationEstimator(**config)
    twin.load_state_dict(estimator.state_dict())
    x = torch.rand(3, 2, 16, 16)
    assert twin.config == estimator.config
    assert torch.equal(twin(x), estimator(x))
    assert torch.equal(_restore(twin, x), _restore(estimator, x))


def test_scale_scores_changes_margins_only():
    estimator = _estimator()
    x = torch.rand(3, 2, 16, 16)
    before = estimator.exact_scores(x)
    estimator.scale_scores(4.0)
    after = estimator.exact_scores(x)
    assert_close(after, 4 * before)
    assert_close(estimator.margin(after), 4 * estimator.margin(before))
    assert_close(estimator.locate(after, x), estimator.locate(before, x), rtol=0, atol=2e-3)


def test_gradients_reach_every_weight_and_the_image():
    estimator = _estimator()
    x = torch.rand(3, 2, 16, 16, requires_grad=True)
    estimator(x).square().sum().backward()
    for name, parameter in estimator.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (16,)}, "Expected `spatial_size` to be two sizes of at least 1, but got (16,)."),
        ({"size": (16, 0)}, "Expected `spatial_size` to be two sizes of at least 1, but got (16, "),
        ({"num_radii": 0}, "Expected `num_radii` to be at least 1, but got 0."),
        ({"num_angles": 0}, "Expected `num_angles` to be at least 1, but got 0."),
        ({"num_angles": 4}, "Expected the kernel to span at most the image, 4 pixels, but got 5"),
        ({"max_radius": -2}, "Expected `max_radius` to be finite and at least 0, but got -2."),
        ({"fill": "mirror"}, "Expected `fill` to be one of ('zeros', 'border', 'reflection'), but"),
        ({"in_channels": 0}, "Expected `in_channels` to be at least 1, but got 0."),
    ],
)
def test_constructor_rejections(options, message):
    _estimator()
    with pytest.raises(ValueError, match=re.escape(message)):
        _estimator(**options)


def test_forward_rejections():
    estimator = _estimator()
    message = "Expected `x` to have shape (batch, 2, 16, 16), but got (2, 2, 16, 15)."
    for score in (estimator, estimator.exact_scores):
        with pytest.raises(ValueError, match=re.escape(message)):
            score(torch.zeros(2, 2, 16, 15))
    with pytest.raises(TypeError, match=r"Expected `x` to be floating, but got torch\.uint8\."):
        estimator(torch.zeros(2, 2, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize("size", [32, 33])
def test_circles_about_the_center_of_mass_ignore_where_an_object_lies(size):
    x = torch.zeros(9, 2, size, size, dtype=torch.uint8)
    x[:, :, 10:18, 12:22] = torch.randint(1, 256, (9, 2, 8, 10), dtype=torch.uint8)
    estimator = _estimator(size=(size, size), center="mass")
    scores = estimator.exact_scores(x)
    assert_close(estimator.exact_scores(x.roll((3, -4), (2, 3))), scores)
    assert not torch.allclose(
        _estimator(size=(size, size)).exact_scores(x.roll((3, -4), (2, 3))), scores
    )
    for quarters in range(4):  # bit for bit, though the center lies between pixels
        turned = estimator.exact_scores(torch.rot90(x, quarters, (2, 3)))
        assert torch.equal(turned, scores.roll(6 * quarters, 1))


def test_the_center_is_checked_and_saved():
    assert _estimator(center="mass").config["center"] == "mass"
    with pytest.raises(ValueError, match=r"^Expected `center` to be 'image' or 'mass', but got"):
        _estimator(center="middle")


@pytest.mark.parametrize("center", ["image", "mass"])
@pytest.mark.parametrize("bits", [None, 8])
def test_the_dtype_of_the_same_pixels_does_not_matter(center, bits):
    network = {"hidden_channels": [4, 4], "kernel_size": [5, 5, 1], "bits": bits}
    estimator = RotationEstimator(1, (16, 16), num_angles=24, center=center, **network)
    x = torch.randint(256, (16, 1, 16, 16), dtype=torch.uint8)
    expected = estimator.exact_scores(x)
    for dtype in (torch.int32, torch.int64, torch.float16, torch.float32, torch.float64):
        assert torch.equal(estimator.exact_scores(x.to(dtype)), expected)


@pytest.mark.parametrize("bits", [None, 8])
def test_quarter_turns_of_the_largest_numbers(bits):
    estimator = RotationEstimator(
        1, (15, 15), num_angles=24, center="mass", kernel_size=5, bits=bits
    )
    x = (2 * torch.rand(3, 1, 15, 15) - 1) * 3e38
    scores = [estimator.exact_scores(x.rot90(turn, (2, 3))) for turn in range(4)]
    for turn, turned in enumerate(scores):
        assert turned.isfinite().all()
        assert torch.equal(turned, scores[0].roll(6 * turn, 1))
