import pytest
import torch
from torch import nn

from eqrestore_lightning import RestoreTransform, RotationEstimator, evaluate_rotations, rotate
from eqrestore_lightning.training import rotation_table


class _RightSide(nn.Module):
    """Class 1 where the right half is brighter than the left one: right for upright images only."""

    def forward(self, x):
        right, left = x[..., 8:].sum((1, 2, 3)), x[..., :8].sum((1, 2, 3))
        return torch.stack([left, right], dim=1)


def _data(count=40):
    images = torch.zeros(count, 1, 16, 16)
    images[:, :, 7:9, 10:14] = 0.5 + 0.5 * torch.rand(count, 1, 1, 1)
    return [(images[:25], torch.ones(25).long()), (images[25:], torch.ones(count - 25).long())]


def _turned_back(x):
    """Turn images until their brightest side is to the right, one of four."""
    sums = torch.stack([torch.rot90(x, -k, (2, 3))[..., 8:].sum((1, 2, 3)) for k in range(4)], 1)
    return rotate(x, -90.0 * sums.argmax(1))


def test_a_restorer_undoes_what_rotations_cost():
    classifier = _RightSide().train()
    results = evaluate_rotations(
        classifier,
        _data(),
        restorers={"restored": _turned_back},
        angles=(0, 90, 180),
        progress=False,
    )
    plain, restored = results[0::2], results[1::2]
    assert [result.angle for result in restored] == [0, 90, 180, None]
    assert [result.restorer for result in results] == ["no restorer", "restored"] * 4
    assert plain[0].accuracy == plain[0].consistency == 1
    assert plain[2].accuracy == plain[2].consistency == 0
    assert 0.3 < plain[3].accuracy < 0.7
    assert 0.2 < plain[3].consistency < 0.8
    assert all(result.accuracy == result.consistency == 1 for result in restored)
    assert classifier.training


def test_shifts_come_on_top_and_the_seed_decides():
    estimator = RotationEstimator(1, (16, 16), num_radii=4, num_angles=8, kernel_size=3)
    options = {"restorers": {"restored": RestoreTransform(estimator)}, "angles": (0,)}

    def run(**more):
        return evaluate_rotations(_RightSide(), _data(), progress=False, **options, **more)

    assert run()[0].accuracy == 1
    shifted = run(max_shift=8)[0]
    assert 0.2 < shifted.accuracy < 0.8
    assert run(max_shift=8, seed=0) == run(max_shift=8)
    assert run(max_shift=8, seed=1) != run(max_shift=8)


def test_rejections():
    with pytest.raises(ValueError, match="Expected `batches` to hold images, but got none"):
        evaluate_rotations(_RightSide(), [], restorers={})
    with pytest.raises(ValueError, match="Expected another name for a restorer than 'no restorer'"):
        evaluate_rotations(_RightSide(), _data(), restorers={"no restorer": _turned_back})
    batches = [(images, labels + 1) for images, labels in _data()]
    with pytest.raises(ValueError, match="labels below the number of logits, 2, but got 2"):
        evaluate_rotations(_RightSide(), batches, restorers={}, progress=False)


def test_the_table_has_a_row_for_each_angle():
    results = evaluate_rotations(
        _RightSide(), _data(), restorers={"x": _turned_back}, angles=(7.5,)
    )
    lines = rotation_table(results).splitlines()
    assert lines[0] == (
        "| turned by, degrees | accuracy, no restorer | accuracy, x "
        "| same class, no restorer | same class, x |"
    )
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 7.5", "| any"]
    assert lines[2] == "| 7.5 | 100.00 | 100.00 | 100.00 | 100.00 |"
