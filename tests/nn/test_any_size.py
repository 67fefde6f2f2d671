import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift
from eqrestore_lightning.nn import ProfileEstimator, build_preset
from eqrestore_lightning.nn._any_size import _center_blank
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights._files import build_estimator, estimator_config

SIZES = [(8, 8), (9, 16), (24, 40), (33, 21), (61, 67)]
DTYPES = [torch.uint8, torch.int16, torch.float16, torch.float32, torch.float64]


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    return ProfileEstimator(3, channels=4, features=6, profile_channels=5)


def _photographs(batch, size, seed=0):
    """Smooth images with noise: uint8, with a seam where they wrap around."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
    noise = 0.02 * torch.randn(batch, 3, *size, generator=generator)
    return ((smooth + noise).clamp(0, 1) * 255).byte()


def _shift_scores(scores, shift):
    return circular_shift(scores.unsqueeze(1), shift).squeeze(1)


@pytest.mark.parametrize("size", SIZES)
def test_scores_follow_the_image_bit_for_bit(estimator, size):
    x = _photographs(5, size)
    shift = random_shift(5, 60)
    moved = estimator.exact_scores(circular_shift(x, shift))
    assert moved.dtype == torch.float64
    assert torch.equal(moved, _shift_scores(estimator.exact_scores(x), shift))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dtype(estimator, dtype):
    x = _photographs(2, (16, 11)).to(dtype)
    scores = estimator.exact_scores(x)
    moved = estimator.exact_scores(x.roll((3, -4), (2, 3)))
    assert torch.equal(moved, scores.roll((3, -4), (1, 2)))


@pytest.mark.parametrize("axes", [(-2,), (-1,)])
def test_one_axis(estimator, axes):
    single = ProfileEstimator(3, axes=axes, channels=4, features=6, profile_channels=5)
    single.load_state_dict(estimator.state_dict())
    x = _photographs(3, (16, 23))
    scores = single.exact_scores(x)
    both = estimator.exact_scores(x)
    axis = axes[0]
    assert scores.shape == (3, x.shape[axis])
    other = both.select(-3 - axis, 0)
    assert_close(scores - scores[:, :1], other - other[:, :1], rtol=0, atol=1e-9)
    assert single.motion.axes == axes


def test_candidates_chosen_by_place_break_it(estimator, monkeypatch):
    def first(scores, count):
        count = min(count, scores.shape[1] - 1)
        places = torch.arange(count).expand(len(scores), count)
        return places, torch.ones_like(places, dtype=torch.bool)

    monkeypatch.setattr("eqrestore_lightning.nn._any_size._best", first)
    x = _photographs(2, (16, 11))
    scores = estimator.exact_scores(x)
    moved = estimator.exact_scores(x.roll((3, -4), (2, 3)))
    assert not torch.equal(moved, scores.roll((3, -4), (1, 2)))


@pytest.mark.parametrize("candidates", [1, 3, 8, 100])
def test_any_number_of_candidates(estimator, candidates):
    network = build_estimator({**estimator_config(estimator)})
    network.load_state_dict(estimator.state_dict())
    network.candidates = candidates
    x = _photographs(3, (100, 17))
    scores = network.exact_scores(x)
    assert torch.equal(network.exact_scores(x.roll((5, 6), (2, 3))), scores.roll((5, 6), (1, 2)))
    ahead = scores.amax(2) - scores.amax((1, 2), keepdim=True).squeeze(2) > -8
    assert (ahead.sum(1) <= max(candidates, 512 // 100)).all()


def test_rows_that_are_equal_are_candidates_together_or_not_at_all(estimator):
    x = _photographs(1, (8, 16)).repeat(1, 1, 5, 1)  # every row five times, eight candidates
    scores = estimator.exact_scores(x)
    for down in range(1, 40, 3):
        assert torch.equal(estimator.exact_scores(x.roll(down, 2)), scores.roll(down, 1))


def test_estimate_is_the_largest_exact_score(estimator):
    blank = torch.zeros(1, 3, 16, 24, dtype=torch.uint8)
    repeated = _photographs(1, (8, 8), seed=1).repeat(1, 1, 2, 3)
    x = torch.cat([_photographs(4, (16, 24)), blank, repeated])
    x = circular_shift(x, random_shift(len(x), 20))
    for part in (x, x[:4]):
        found = estimator.estimate(part)["shift"]
        assert torch.equal(found, estimator.locate(estimator.exact_scores(part), part)["shift"])


def test_wide_images_are_summed_exactly(estimator):
    x = _photographs(1, (8, 6_001))
    scores = estimator.exact_scores(x)
    shift = (3, 2_345)
    assert torch.equal(estimator.exact_scores(x.roll(shift, (2, 3))), scores.roll(shift, (1, 2)))


def test_neither_batch_nor_format_nor_threads_change_a_bit(estimator, monkeypatch):
    x = _photographs(7, (40, 24)).float()
    scores = estimator.exact_scores(x)
    assert torch.equal(torch.cat([estimator.exact_scores(part) for part in x.split(1)]), scores)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(estimator.exact_scores(channels_last), scores)
    assert torch.equal(estimator.exact_scores(x.transpose(2, 3).contiguous().mT), scores)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    other = estimator.exact_scores(x)
    torch.set_num_threads(threads)
    assert torch.equal(other, scores)
    monkeypatch.setattr("eqrestore_lightning.nn._separable._PIXELS_AT_ONCE", 1)
    assert torch.equal(estimator.exact_scores(x), scores)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(estimator.exact_scores(x), scores)
    torch.backends.mkldnn.set_flags(False)
    other = estimator.exact_scores(x)
    torch.backends.mkldnn.set_flags(True)
    assert torch.equal(other, scores)


def test_neither_range_nor_contrast_change_scores(estimator):
    x = _photographs(2, (16, 12)).double()
    scores = estimator.exact_scores(x)
    assert torch.equal(estimator.exact_scores(x * 4 - 300), scores)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_forward_is_close_to_exact_scores(estimator, dtype):
    x = _photographs(3, (24, 17)).to(dtype)
    scores = estimator(x)
    assert scores.dtype == torch.promote_types(dtype, torch.float32)
    assert_close(scores.double(), estimator.exact_scores(x), rtol=5e-3, atol=5e-3)


def test_transposed_images_have_transposed_scores(estimator):
    x = _photographs(2, (16, 23))
    assert torch.equal(estimator.exact_scores(x.mT), estimator.exact_scores(x).mT)


def test_input_stays(estimator):
    x = _photographs(2, (16, 12)).float()
    before = x.clone()
    estimator(x)
    estimator.exact_scores(x)
    assert torch.equal(x, before)


def test_empty_batch(estimator):
    assert estimator.exact_scores(torch.zeros(0, 3, 12, 9)).shape == (0, 12, 9)
    assert estimator(torch.zeros(0, 3, 12, 9)).shape == (0, 12, 9)


def test_blank_images_stay(estimator):
    x = torch.full((2, 3, 16, 12), 7.0)
    scores = estimator.exact_scores(x)
    assert estimator.constant(scores).all()
    assert (estimator.margin(scores) == 0).all()


def _centered_by_hand(scores, same):
    """What `_center_blank` says, for one image and by a loop."""
    rows, expected = len(scores), scores.clone()
    changes = [row for row in range(rows) if not same[row]]
    after = [*changes[1:], *(row + rows for row in changes[:1])]
    lengths = [end - start - 1 for start, end in zip(changes, after, strict=True)]
    for start, end, length in zip(changes, after, lengths, strict=True):
        if length == max(lengths) and length >= 8:
            ends = min(scores[start], scores[end % rows])
            expected[(start + 1 + length // 2) % rows] = ends + 25
    return expected


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_the_middle_of_the_longest_blank_stretch(share):
    generator = torch.Generator().manual_seed(0)
    for rows in (9, 20, 41):
        same = torch.rand(50, rows, generator=generator) < share
        scores = torch.randn(50, rows, generator=generator, dtype=torch.float64)
        expected = torch.stack(list(map(_centered_by_hand, scores, same)))
        assert torch.equal(_center_blank(scores, same), expected)


@pytest.mark.parametrize("color", [0, 90, 255])
def test_objects_on_a_plain_background_are_centered(color):
    photo = RestoreTransform("photo")
    x = torch.full((6, 3, 64, 80), color, dtype=torch.uint8)
    x[:, :, 16:48, 24:60] = _photographs(6, (32, 36))  # 16 rows above and below, 24 and 20 beside
    restored = photo(circular_shift(x, random_shift(6, 40)))
    assert torch.equal(restored, x.roll(-2, 3))
    photo.estimator.train()  # negative control: there the object's edges are taken for seams
    assert photo.find(x).motion["shift"].abs().amax() >= 16


def test_a_seam_that_shows_is_ahead_of_a_blank_stretch():
    photo = RestoreTransform("photo")
    light = ((torch.arange(64) - 30).abs() / 20 - 0.3).clamp(0, 1)  # a night: black in the middle
    x = (_photographs(6, (64, 80)) * light[:, None]).byte()
    assert (x[:, :, 25:35] == 0).all()
    assert torch.equal(photo(circular_shift(x, random_shift(6, 40))), x)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_images_that_are_not_finite_are_not_moved(estimator, value):
    x = _photographs(2, (16, 12)).float().roll((4, 5), (2, 3))
    x[0, 1, 3, 4] = value
    scores = estimator.exact_scores(x)
    assert scores[0].isnan().all()
    assert torch.equal(scores[1], estimator.exact_scores(x[1:])[0])
    assert (estimator.locate(scores, x)["shift"][0] == 0).all()


def test_every_weight_is_trained():
    torch.manual_seed(0)
    network = ProfileEstimator(3, channels=4, features=6, profile_channels=5)
    x = _photographs(16, (24, 20)).float()
    element = {"shift": torch.zeros(16, 2, dtype=torch.int64)}
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = network.loss(network(x), element)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    moved = {name for name, p in network.named_parameters() if p.grad.abs().sum() > 0}
    assert moved >= {name for name, _ in network.named_parameters() if name != "profile3.bias"}


def test_loss_is_the_sum_of_both_axes(estimator):
    x = _photographs(4, (12, 15)).float()
    element = {"shift": torch.tensor([[0, 0], [1, -2], [3, 4], [-5, 6]])}
    scores = estimator(x)
    rows = scores.logsumexp(2).log_softmax(1)
    columns = scores.logsumexp(1).log_softmax(1)
    index = torch.arange(4)
    shift = element["shift"]
    apart = rows[index, shift[:, 0] % 12] + columns[index, shift[:, 1] % 15]
    assert_close(estimator.loss(scores, element), -apart.mean())


def test_scaling_scores_scales_margins_only(estimator):
    scaled = build_estimator(estimator_config(estimator))
    scaled.load_state_dict(estimator.state_dict())
    scaled.scale_scores(2.5)
    x = _photographs(3, (16, 12))
    scores, other = estimator.exact_scores(x), scaled.exact_scores(x)
    assert_close(other, scores * 2.5)
    assert torch.equal(estimator.locate(scores, x)["shift"], scaled.locate(other, x)["shift"])
    for factor in (0.0, float("inf")):
        with pytest.raises(ValueError, match=r"^Expected `factor` to be finite and above 0, but"):
            scaled.scale_scores(factor)


def test_images_that_repeat_are_restored_equally(estimator):
    x = _photographs(1, (8, 8))[0].repeat(1, 2, 3)
    restore = RestoreTransform(estimator)
    assert torch.equal(restore(x.roll((3, 13), (1, 2))), restore(x))


def test_preset_ignores_the_size():
    for size in [(), (32, 32), (7,)]:
        assert build_preset("photo", 1, size, axes=(-1,)).axes == (-1,)


def test_rejects_what_does_not_fit(estimator):
    with pytest.raises(
        ValueError, match=r"^Expected images of 8 to 65536 pixels on each axis, but"
    ):
        estimator(torch.zeros(1, 3, 8, 7))
    with pytest.raises(ValueError, match=r"^Expected `x` to have shape \(batch, 3, height, width"):
        estimator.exact_scores(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"^Expected `x` to have shape \(batch, 3, height, width"):
        estimator.exact_scores(torch.zeros(3, 8, 8))
    with pytest.raises(TypeError, match=r"^Expected `x` to be floating, but got torch.uint8."):
        estimator(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "^Expected `in_channels` to be at least 1, but got 0.$"),
        ({"candidates": 0}, "^Expected `candidates` to be at least 1, but got 0.$"),
        ({"channels": 0}, "^Expected `channels` to be at least 1, but got 0.$"),
        ({"features": 0}, "^Expected `features` to be at least 1, but got 0.$"),
        ({"profile_channels": 0}, "^Expected `profile_channels` to be at least 1, but got 0.$"),
        ({"axes": (0,)}, "^Expected `axes` to be ascending and from"),
        ({"axes": ()}, "^Expected `axes` to be ascending and from"),
        ({"in_channels": 15}, "^Expected at most 257 products in a sum, so that it is exact, but"),
        ({"channels": 86}, "^Expected at most 257 products in a sum, so that it is exact, but"),
    ],
)
def test_rejects_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        ProfileEstimator(**{"in_channels": 3, **options})


def test_widest_networks_are_exact():
    torch.manual_seed(0)
    network = ProfileEstimator(14, channels=85, features=2, profile_channels=2)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 9.0)
    x = 255.0 * torch.randint(2, (2, 14, 8, 9))
    scores = network.exact_scores(x)
    moved = network.exact_scores(x.roll((3, 4), (2, 3)))
    assert torch.equal(moved, scores.roll((3, 4), (1, 2)))
