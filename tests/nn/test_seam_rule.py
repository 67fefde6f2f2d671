import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.nn._seam_rule import SeamRule
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights import load_estimator, save_estimator

MEASURES = [
    "difference",
    "second-difference",
    "relative-difference",
    "relative-second-difference",
]


def _reference(x, measure):
    """Score rows of one image, entry by entry."""
    rows = x.double().movedim(1, 0)
    count = len(rows)

    def step(i):
        return rows[i % count] - rows[(i - 1) % count]

    def size(i):
        return step(i).abs().sum()

    scores = []
    for i in range(count):
        if measure == "difference":
            scores.append(size(i))
        elif measure.endswith("second-difference"):
            bend = (2 * step(i) - step(i - 1) - step(i + 1)).abs().sum()
            around = sum(size(i + offset) for offset in (-2, -1, 1, 2))
            scores.append(bend / around if measure.startswith("relative") else bend)
        else:
            scores.append(size(i) / (size(i - 1) + size(i + 1)))
    return torch.stack(scores)


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_are_those_of_the_formula(measure):
    x = torch.randint(0, 65_536, (2, 3, 9, 12))
    x[:, 0, 0, 0], x[:, 0, 0, 1] = 0, 65_535
    scores = SeamRule(3, measure=measure).exact_scores(x)
    for one, each in zip(x, scores, strict=True):
        expected = _reference(one, measure)[:, None] + _reference(one.mT, measure)[None]
        assert_close(each, expected)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("axes", [None, (-2,), (-1,)])
@pytest.mark.parametrize("size", [(1, 1), (9, 12), (33, 20)])
def test_scores_follow_the_image_bit_for_bit(measure, axes, size):
    rule = SeamRule(2, measure=measure, axes=axes)
    x = torch.rand(3, 2, *size)
    moved = rule.exact_scores(x.roll((5, -3), (2, 3)))
    shift = {None: (5, -3), (-2,): (5,), (-1,): (-3,)}[axes]
    assert torch.equal(moved, rule.exact_scores(x).roll(shift, tuple(range(1, 1 + len(shift)))))


@pytest.mark.parametrize("measure", MEASURES)
def test_finds_the_seam_of_a_ramp(measure):
    down, right = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    x = (down + 2 * right)[None] + torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))
    restore = RestoreTransform(SeamRule(1, measure=measure))
    moved = x.roll((7, -11), (1, 2))
    assert torch.equal(restore(moved), x)
    assert torch.equal(restore.find(moved).motion["shift"], torch.tensor([7, -11]))


def test_texture_misleads_the_difference_but_not_the_relative_one():
    x = torch.arange(32.0).expand(1, 1, 16, 32).clone()
    x[..., 10:20:2] += 60.0
    rules = {name: SeamRule(1, axes=(-1,), measure=name) for name in MEASURES}
    found = {name: int(rule.exact_scores(x).argmax()) for name, rule in rules.items()}
    assert found["difference"] != 0
    assert found["relative-difference"] == 0


def test_forward_has_the_dtype_of_the_images():
    x = torch.rand(2, 1, 9, 12)
    rule = SeamRule(1)
    assert rule(x).dtype == torch.float32
    assert_close(rule(x).double(), rule.exact_scores(x))
    assert not list(rule.parameters())


def test_saved_and_loaded(tmp_path):
    rule = SeamRule(2, axes=(-1,), measure="second-difference")
    rule.scale_scores(0.5)
    save_estimator(rule, tmp_path / "rule.safetensors")
    loaded = load_estimator(tmp_path / "rule.safetensors")
    x = torch.rand(2, 2, 9, 12)
    assert loaded.config == rule.config
    assert torch.equal(loaded.exact_scores(x), rule.exact_scores(x))


def test_rejections():
    with pytest.raises(ValueError, match=r"^Expected `measure` to be one of"):
        SeamRule(1, measure="largest")
    with pytest.raises(ValueError, match=r"^Expected `in_channels` to be at least 1, but got 0.$"):
        SeamRule(0)
    with pytest.raises(ValueError, match=r"^Expected `x` to have shape \(batch, 1, height, width"):
        SeamRule(1).exact_scores(torch.zeros(1, 2, 9, 9))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("size", "axes"), [((23,), None), ((7, 9, 10), None), ((7, 9, 10), (-2,))])
def test_signals_and_volumes_are_scored_axis_by_axis(measure, size, axes):
    rule = SeamRule(2, measure=measure, axes=axes, num_spatial_dims=len(size))
    x = torch.randint(0, 256, (3, 2, *size), dtype=torch.uint8)
    restore = RestoreTransform(rule)
    shift = torch.tensor([2, -3, 4][: len(rule.axes)]).expand(3, -1)
    moved = rule.motion.apply(x, {"shift": shift})
    assert torch.equal(restore(moved), restore(x))
    scores = rule.exact_scores(x)
    assert scores.shape == (3, *(size[axis] for axis in rule.axes))
    alone = SeamRule(2, measure=measure, axes=(-1,)).exact_scores(x.reshape(3, 2, -1, size[-1]))
    if len(size) == 1:
        assert torch.equal(scores, alone)


def test_the_number_of_axes_is_checked():
    with pytest.raises(ValueError, match="`num_spatial_dims` to be from 1 to 3, but got 4"):
        SeamRule(1, num_spatial_dims=4)
    with pytest.raises(ValueError, match=r"to have shape \(batch, 1, length\), but got \(2, 1, 9,"):
        SeamRule(1, num_spatial_dims=1).exact_scores(torch.zeros(2, 1, 9, 9))
