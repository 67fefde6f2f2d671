import pytest
import torch

from eqrestore_lightning import QuarterTurn, Turn
from eqrestore_lightning.evaluation._rules import (
    border_rule,
    harmonic_rule,
    quarter_rules,
    seam_rules,
    turn_rules,
)
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift


def test_seams_are_found_where_an_image_wraps_around():
    ramp = torch.arange(14.0)[:, None] * 2 + torch.arange(11.0) * 3
    images = (ramp + torch.rand(5, 2, 14, 11)) * 4
    shift = random_shift(5, 5)
    for name, rule in seam_rules(2).items():
        assert name.startswith("rule: ")
        moved = circular_shift(images, shift)
        found = rule.find(moved)
        assert torch.equal(found.motion["shift"], shift)
        assert torch.equal(rule.undo(moved, found), images)


def test_a_steep_slope_misleads_the_plain_difference_but_not_the_relative_one():
    x = torch.arange(24.0)
    profile = 2 * x + 300 * torch.exp(-((x - 9.5) ** 2) / 8)
    images = profile[:, None] + profile[None, :] + torch.rand(4, 1, 24, 24)
    found = {
        name: rule.find(images).motion["shift"].count_nonzero()
        for name, rule in seam_rules(1).items()
    }
    assert found["rule: relative difference"] == 0
    assert found["rule: difference"] == 8


def test_rules_know_their_axes():
    signals = (torch.arange(17.0) + torch.rand(3, 2, 17)).roll(4, 2)
    panoramas = (torch.arange(17.0) + torch.rand(3, 2, 9, 17)).roll(4, 3)
    for x, dims in ((signals, 1), (panoramas, 2)):
        for rule in seam_rules(2, axes=(-1,), num_spatial_dims=dims).values():
            assert rule.find(x).motion["shift"].tolist() == [[4]] * 3


@pytest.mark.parametrize("size", [(11,), (10, 11), (10, 11, 12)])
def test_the_first_harmonic_follows_the_mass(size):
    images = torch.zeros(4, 1, *size)
    images[(slice(None), slice(None), *[n // 2 for n in size])] = 1.0
    shift = random_shift(4, 4, num_spatial_dims=len(size))
    (rule,) = harmonic_rule().values()
    moved = circular_shift(images, shift)
    assert torch.equal(rule.find(moved).motion["shift"], shift)
    assert torch.equal(rule(moved), images)
    (along_width,) = harmonic_rule(axes=(-1,)).values()
    assert torch.equal(along_width.find(moved).motion["shift"], shift[:, -1:])


def test_a_blank_border_is_found_on_any_number_of_axes():
    for size in ((12,), (12, 15), (9, 10, 11)):
        images = torch.zeros(6, 3, *size, dtype=torch.uint8)
        inner = images[(slice(None), slice(None), *[slice(2, -2)] * len(size))]
        inner.copy_(torch.randint(1, 256, inner.shape))
        (rule,) = border_rule(3, size, 2).values()
        shift = random_shift(6, 4, num_spatial_dims=len(size))
        assert torch.equal(rule.find(circular_shift(images, shift)).motion["shift"], shift)
        filled = torch.randint(1, 256, images.shape, dtype=torch.uint8)  # no border: no answer
        assert (rule.find(filled).motion["shift"] != 0).any()


def _blobs(count=8, size=33):
    """Ellipses longer to the right, the brighter end to the right: every direction is 0°."""
    steps = torch.arange(size) - size // 2
    up, right = -steps[:, None], steps[None, :]
    lengths = torch.linspace(8, 12, count)[:, None, None]
    inside = (up / 4.0) ** 2 + (right / lengths) ** 2 <= 1
    return (inside * (0.6 + 0.4 * right / size)).unsqueeze(1)


def test_turned_images_are_turned_back_by_each_rule():
    images = _blobs()
    angle = torch.linspace(-170, 170, len(images), dtype=torch.float64)
    turned = Turn().apply(images, {"angle": angle})
    for name, rule in turn_rules(images).items():
        error = (rule.find(turned).motion["angle"] - angle + 180) % 360 - 180
        assert error.abs().median() < 6, name
        assert (rule(turned) - images).abs().mean() < (turned - images).abs().mean() / 2


def test_quarter_turns_are_found_by_the_brighter_or_smoother_side():
    sky = torch.zeros(12, 3, 16, 16)
    sky[:, :, :8] = 0.9 + 0.1 * torch.rand(12, 3, 1, 1)
    sky[:, :, 8:] = 0.3 * torch.rand(12, 3, 8, 16)
    quarters = torch.arange(12) % 4
    turned = QuarterTurn().apply(sky, {"quarters": quarters})
    for rule in quarter_rules(sky).values():
        found = rule.find(turned)
        assert torch.equal(found.motion["quarters"], quarters)
        assert torch.equal(rule.undo(turned, found), sky)
