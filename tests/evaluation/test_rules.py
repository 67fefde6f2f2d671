import pytest
import torch

from eqrestore_lightning.evaluation import harmonic_rule, seam_rules
from eqrestore_lightning.functional import circular_shift, random_shift


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
