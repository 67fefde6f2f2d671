import re

import pytest
import torch
from torch import nn

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.nn import CircularConv
from eqrestore_lightning.testing import assert_equivariant, equivariance_error

SHAPES = {1: (2, 3, 11), 2: (2, 3, 6, 9), 3: (2, 3, 4, 5, 6)}


def _by_hand(operator, x, shift):
    """Compute the error entry by entry, from the definition."""
    axes = tuple(range(2, x.ndim))
    moved, still = operator(x.roll(shift, axes)), operator(x)
    difference = (moved - still.roll(shift, axes)).flatten().tolist()
    norm = sum(entry**2 for entry in still.flatten().tolist()) ** 0.5
    return sum(entry**2 for entry in difference) ** 0.5 / norm


@pytest.mark.parametrize("num_axes", SHAPES)
@torch.no_grad()
def test_the_error_is_the_one_of_the_definition(num_axes):
    x = torch.randn(SHAPES[num_axes], dtype=torch.float64)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[num_axes](3, 2, 3, padding=1).double()
    shift = (2, -1, 3)[:num_axes]
    before = x.clone()
    error = equivariance_error(conv, x, shift=shift)
    assert error == pytest.approx(_by_hand(conv, x, shift), rel=1e-12)
    assert error > 0.1
    assert torch.equal(x, before)
    circular = CircularConv(num_axes, 3, 2, 3).double()
    assert equivariance_error(circular, x, shift=shift) < 1e-14
    assert_equivariant(circular, x)


def test_one_pixel_on_every_axis_is_the_default():
    x = torch.randn(1, 2, 6, 7)
    conv = nn.Conv2d(2, 2, 3, padding=1)
    assert equivariance_error(conv, x) == equivariance_error(conv, x, shift=(1, 1))


def test_strides_follow_their_multiples_only():
    x = torch.randn(1, 1, 8, 12)
    pool = nn.MaxPool2d((2, 3))
    assert equivariance_error(pool, x, shift=(2, -6)) == 0
    assert_equivariant(pool, x, shift=(4, 3))
    for shift in [(1, 0), (0, 1), (0, 2), (2, 1)]:
        assert equivariance_error(pool, x, shift=shift) > 0.1
    still, moved = pool(x), pool(x.roll(1, 3))
    nearest = min(float((moved - still.roll(n, 3)).norm() / still.norm()) for n in (0, 1))
    assert equivariance_error(pool, x, shift=(0, 1)) == pytest.approx(nearest, rel=1e-6)


def test_without_spatial_axes_invariance_is_measured():
    x = torch.randn(2, 3, 4, 5)
    assert equivariance_error(lambda x: x.amax((2, 3)), x, shift=(1, 2)) == 0
    expected = float((x.roll((1, 2), (2, 3)) - x).norm() / x.norm())
    assert equivariance_error(nn.Flatten(), x, shift=(1, 2)) == pytest.approx(expected, rel=1e-6)


def test_an_uncut_object_moves_through_convolutions_without_padding():
    x = torch.zeros(1, 1, 20, 20)
    x[:, :, 6:11, 7:12] = torch.rand(5, 5)
    network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, 5))
    options = {"shift": (3, -2), "stride": 1}
    assert equivariance_error(network, x, **options, ignored_border=3) < 1e-6
    x[:, :, 0] = 1  # what leaves at the border is lost
    assert equivariance_error(network, x, **options) > 0.01
    with pytest.raises(ValueError, match="to leave something, but got 6"):
        equivariance_error(network, x, **options, ignored_border=6)


def test_quarter_turns():
    x = torch.randn(2, 1, 5, 7)
    symmetric = torch.tensor([[[[1.0, 2, 1], [2, 3, 2], [1, 2, 1]]]])
    for turns in (1, 2, 3, -1):
        assert_equivariant(lambda x: circular_conv(x, symmetric), x, angle=90 * turns)
        assert equivariance_error(CircularConv(2, 1, 1, 3), x, angle=90 * turns) > 0.05
    one_way = torch.tensor([[[[1.0, 2, 1], [0, 0, 0], [1, 2, 1]]]])
    assert_equivariant(lambda x: circular_conv(x, one_way), x, angle=180)
    assert equivariance_error(lambda x: circular_conv(x, one_way), x, angle=90) > 0.05


def test_other_angles_up_to_interpolation():
    place = torch.arange(33) - 16.0
    row, column = place.reshape(-1, 1), place
    x = torch.exp(-((row - 3) ** 2 + (column + 2) ** 2) / 40)[None, None]
    symmetric = torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]])
    sideways = torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]])
    for angle in (30, -77.5):
        assert equivariance_error(lambda x: circular_conv(x, symmetric), x, angle=angle) < 0.01
        assert equivariance_error(lambda x: circular_conv(x, sideways), x, angle=angle) > 0.4
    assert_equivariant(lambda x: x.sum((2, 3)), x, angle=30, tolerance=0.01)


def test_blank_outputs_and_empty_batches():
    x = torch.randn(2, 1, 5, 7)
    assert equivariance_error(torch.zeros_like, x) == 0
    assert equivariance_error(torch.relu, x[:0]) == 0
    outputs = iter([torch.zeros(1, 1, 5, 7), torch.ones(1, 1, 5, 7)])
    assert equivariance_error(lambda _: next(outputs), x) == float("inf")


def test_failures_say_what_was_tried():
    x = torch.randn(1, 1, 6, 7)
    conv = nn.Conv2d(1, 1, 3, padding=1)
    for motion, words in [
        ({}, "a shift by one pixel"),
        ({"shift": (2, 3)}, "a shift of (2, 3)"),
        ({"angle": 180}, "a turn by 180°"),
    ]:
        message = f"to be equivariant to {words}, up to 0.00035, but got an error of "
        with pytest.raises(AssertionError, match=re.escape(message)):
            assert_equivariant(conv, x, **motion)
    assert_equivariant(conv, x, tolerance=2.0)


def test_rejections():
    x = torch.randn(1, 1, 6, 7)
    with pytest.raises(ValueError, match="Expected one of `shift` and `angle`, but got both"):
        equivariance_error(torch.relu, x, shift=(1, 1), angle=90)
    with pytest.raises(ValueError, match=re.escape("to have 2 entries, but got (1,).")):
        equivariance_error(torch.relu, x, shift=(1,))
