import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift, scores_to_shift
from eqrestore_lightning.nn import TranslationEstimator

NETWORKS = {
    "paper, color": (3, (32, 32), {}),
    "paper": (1, (32, 32), {}),
    "signal": (2, (17,), {"kernel_size": 5, "bias": True}),
    "volume": (1, (8, 9, 10), {"kernel_size": 3, "hidden_channels": [2, 2], "skip": True}),
    "full size": (3, (9, 12), {"hidden_channels": [4], "kernel_size": ["full", 1], "bias": True}),
    "separable": (
        1,
        (12, 9),
        {"hidden_channels": [4, 4], "kernel_size": ["full", 3, 1], "separable": True},
    ),
    "separable in one layer": (
        2,
        (12, 9),
        {
            "hidden_channels": [3, 4],
            "kernel_size": [3, "full", 1],
            "separable": [False, True, False],
            "bias": True,
        },
    ),
    "dilated": (
        1,
        (16, 16),
        {
            "hidden_channels": [4] * 3,
            "kernel_size": 3,
            "dilation": [1, 2, 4, 1],
            "skip": True,
            "bias": True,
        },
    ),
    "integers": (
        3,
        (12, 9),
        {
            "hidden_channels": [4] * 4,
            "kernel_size": [3, 3, "full", 3, 1],
            "dilation": [1, 2, 1, 1, 1],
            "skip": True,
            "bias": True,
            "bits": 8,
        },
    ),
    "signal by integers": (
        4,
        (36,),
        {
            "hidden_channels": [32] * 2,
            "kernel_size": [9, 9, 1],
            "bias": True,
            "bits": 8,
        },
    ),
}


@pytest.fixture(params=NETWORKS)
def estimator(request):
    in_channels, size, options = NETWORKS[request.param]
    return TranslationEstimator(in_channels, size, **options)


def _images(estimator, batch=6):
    return torch.rand(batch, estimator.in_channels, *estimator.spatial_size)


def test_default_is_the_papers_network():
    estimator = TranslationEstimator(1, (32, 32))
    assert sum(parameter.numel() for parameter in estimator.parameters()) == 486
    assert len(estimator.layers) == 6


def test_scores_follow_the_image(estimator):
    x = _images(estimator)
    shift = random_shift(len(x), 20, num_spatial_dims=x.ndim - 2)
    moved = circular_shift(x, shift)
    scores = circular_shift(estimator(x).unsqueeze(1), shift).squeeze(1)
    assert_close(estimator(moved), scores, rtol=1e-3, atol=1e-4)
    exact = circular_shift(estimator.exact_scores(x).unsqueeze(1), shift).squeeze(1)
    assert torch.equal(estimator.exact_scores(moved), exact)


def test_exact_scores_are_close_to_the_scores(estimator):
    x = _images(estimator)
    scores = estimator(x)
    difference = (estimator.exact_scores(x) - scores).abs().max()
    tolerance = 1e-3 if estimator.bits is None else 0.03
    assert difference < tolerance * scores.abs().max()


def _found(estimator, x):
    return estimator.locate(estimator.exact_scores(x), x)["shift"]


def _some_shifts(x, count=64):
    shift = random_shift(count, max(x.shape[2:]), num_spatial_dims=x.ndim - 2)
    shift[0] = 0
    return circular_shift(x.expand(count, *x.shape[1:]), shift)


def _restore(estimator, x):
    return estimator.motion.undo(x, estimator.locate(estimator.exact_scores(x), x))


def _nearly_uniform():
    x = torch.ones(1, 1, 32, 32)
    x[0, 0, 3, 5] = 1 - 1e-6
    return x


def _nearly_periodic():
    x = torch.rand(1, 1, 32, 16).repeat(1, 1, 1, 2)
    x[0, 0, 3, 5] += 2e-6
    return x


def _one_pixel():
    x = torch.zeros(1, 1, 224, 224, dtype=torch.uint8)
    x[0, 0, 100, 7] = 200
    return x


@pytest.mark.parametrize("image", [_nearly_uniform, _nearly_periodic, _one_pixel])
def test_restoring_is_the_same_for_every_shift_where_all_scores_tie(image):
    x = image()
    estimator = TranslationEstimator(1, x.shape[2:], kernel_size=3, hidden_channels=[1])
    for parameter in estimator.parameters():
        parameter.data.zero_()
    moved = _some_shifts(x)
    restored = _restore(estimator, moved)
    assert torch.equal(restored, restored[:1].expand_as(restored))
    scores = estimator.exact_scores(moved)
    assert scores.count_nonzero() == 0
    lowest_index = estimator.motion.undo(moved, {"shift": scores_to_shift(scores)})
    assert not torch.equal(lowest_index, restored)  # the lowest index does not follow


@pytest.mark.parametrize("image", [_nearly_uniform, _nearly_periodic])
def test_restoring_is_the_same_for_images_with_faint_features(image):
    moved = _some_shifts(image(), count=256)
    restored = _restore(TranslationEstimator(1, (32, 32)), moved)
    assert torch.equal(restored, restored[:1].expand_as(restored))


def test_images_that_are_not_finite_stay_where_they_are():
    x = torch.rand(2, 1, 9, 9)
    x[0, 0, 3, 4] = float("nan")
    estimator = TranslationEstimator(1, (9, 9), kernel_size=3)
    scores = estimator.exact_scores(x)
    assert estimator.margin(scores).isnan().tolist() == [True, False]
    assert estimator.locate(scores, x)["shift"][0].tolist() == [0, 0]


def test_a_periodic_image_cannot_be_located_but_is_restored_to_itself():
    estimator = TranslationEstimator(1, (6, 8), kernel_size=3)
    tile = torch.rand(1, 1, 6, 4)
    x = torch.cat([tile, tile], dim=3)
    assert estimator.margin(estimator.exact_scores(x)).item() == 0
    moved = x.roll(4, 3)
    assert torch.equal(_found(estimator, moved), _found(estimator, x))


@pytest.mark.parametrize("scale", [1e-3, 255.0])
def test_the_scale_of_the_input_does_not_matter(estimator, scale):
    x = _images(estimator)
    assert_close(estimator(x * scale), estimator(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(_found(estimator, x * scale), _found(estimator, x))


def test_blank_images_give_finite_scores(estimator):
    x = _images(estimator) * 0
    assert estimator(x).isfinite().all()
    assert estimator.exact_scores(x).isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
def test_no_start_is_dead(network):
    in_channels, size, options = NETWORKS[network]
    noise = torch.rand(3, in_channels, *size)
    last_channel = noise[:1] * (torch.arange(in_channels) == in_channels - 1).reshape(
        1, -1, *[1] * len(size)
    )
    x = torch.cat([noise, 0.8 + 0.2 * noise, last_channel])
    for seed in range(60):
        torch.manual_seed(seed)
        scores = TranslationEstimator(in_channels, size, **options)(x).flatten(1)
        spread = scores.amax(1) - scores.amin(1)
        assert (spread > 1e-3 * scores.abs().amax(1)).all()


def test_scale_scores_changes_margins_only(estimator):
    x = _images(estimator)
    before = estimator.exact_scores(x)
    estimator.scale_scores(4.0)
    after = estimator.exact_scores(x)
    assert_close(after, 4 * before)
    assert_close(estimator.locate(after, x), estimator.locate(before, x), rtol=0, atol=0)
    with pytest.raises(
        ValueError, match=r"Expected `factor` to be finite and above 0, but got 0\.0\."
    ):
        estimator.scale_scores(0.0)


def test_config_builds_the_same_network(estimator):
    twin = TranslationEstimator(**estimator.config)
    twin.load_state_dict(estimator.state_dict())
    x = _images(estimator)
    assert torch.equal(twin(x), estimator(x))
    assert torch.equal(twin.exact_scores(x), estimator.exact_scores(x))


def test_gradients_reach_every_weight(estimator):
    estimator(_images(estimator)).square().sum().backward()
    for name, parameter in estimator.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_exact_scores_take_integers_and_empty_batches():
    estimator = TranslationEstimator(1, (9, 9), kernel_size=3)
    x = torch.randint(0, 256, (3, 1, 9, 9), dtype=torch.uint8)
    assert torch.equal(estimator.exact_scores(x), estimator.exact_scores(x.double()))
    assert _found(estimator, x[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_size": ()}, "Expected `spatial_size` to be one to three sizes of at least 1, "
         "but got ()."),
        ({"spatial_size": (8, 0)}, "Expected `spatial_size` to be one to three sizes of at least "
         "1, but got (8, 0)."),
        ({"kernel_size": 13}, "Expected the kernel to span at most the image, 12 pixels, but got "
         "13 taps at dilation 1."),
        ({"dilation": 2}, "Expected the kernel to span at most the image, 12 pixels, but got 9 "
         "taps at dilation 2."),
        ({"kernel_size": "half"}, "Expected `kernel_size` to be a number or 'full', but got "
         "'half'."),
        ({"kernel_size": [3, 3]}, "Expected `kernel_size` to be one value or 6, one for each "
         "layer, but got [3, 3]."),
        ({"in_channels": 0}, "Expected `in_channels` to be at least 1, but got 0."),
        ({"bits": 0}, "Expected `bits` to be None or from 1 to 18, but got 0."),
        ({"bits": 19}, "Expected `bits` to be None or from 1 to 18, but got 19."),
    ],
)  # fmt: skip
def test_constructor_rejections(options, message):
    arguments = {"in_channels": 1, "spatial_size": (12, 12)}
    TranslationEstimator(**arguments)
    with pytest.raises(ValueError, match=re.escape(message)):
        TranslationEstimator(**{**arguments, **options})


def test_forward_rejections():
    estimator = TranslationEstimator(1, (12, 12))
    message = "Expected `x` to have shape (batch, 1, 12, 12), but got (2, 1, 12, 13)."
    with pytest.raises(ValueError, match=re.escape(message)):
        estimator(torch.rand(2, 1, 12, 13))
    with pytest.raises(TypeError, match=r"Expected `x` to be floating, but got torch\.uint8\."):
        estimator(torch.zeros(2, 1, 12, 12, dtype=torch.uint8))


def test_integers_are_for_local_filters_alone():
    """Those of 2 to 25 taps; one tap, as in a last layer, would tie."""
    network = {"hidden_channels": [3, 3, 3], "kernel_size": [5, "full", 1, 1], "bias": True}
    fine = TranslationEstimator(1, (12, 9), **network)
    coarse = TranslationEstimator(1, (12, 9), **network, bits=8)
    coarse.load_state_dict(fine.state_dict())
    x = torch.rand(4, 1, 12, 9)
    local, *others = fine._convs()
    images = x / x.amax((1, 2, 3), keepdim=True)
    hidden = local.prepare((12, 9), x.device, bits=8)(images).relu()
    for layer in others[:-1]:
        hidden = layer.prepare((12, 9), x.device, bits=None)(hidden).relu()
    expected = others[-1].prepare((12, 9), x.device, bits=None)(hidden.double()).squeeze(1)
    assert_close(coarse.exact_scores(x), expected.detach(), rtol=1e-6, atol=1e-6)
    assert not torch.equal(coarse.exact_scores(x), fine.exact_scores(x))
    others_only = TranslationEstimator(1, (12, 9), kernel_size="full", hidden_channels=[2])
    config = {**others_only.config, "bits": 8}
    twin = TranslationEstimator(**config)
    twin.load_state_dict(others_only.state_dict())
    assert_close(twin.exact_scores(x), others_only.exact_scores(x), rtol=1e-4, atol=1e-4)


def test_integers_are_found_as_scored():
    torch.manual_seed(0)
    options = {"hidden_channels": [5], "kernel_size": [5, 1], "bits": 8}
    for _ in range(10):
        network = TranslationEstimator(1, (9, 10), **options)
        x = torch.randint(256, (64, 1, 9, 10), dtype=torch.uint8)
        found = network.locate(network.exact_scores(x), x)["shift"]
        assert torch.equal(network.estimate(x)["shift"], found)


@pytest.mark.parametrize("bits", [None, 8])
def test_the_dtype_of_the_same_pixels_does_not_matter(bits):
    network = {"hidden_channels": [4, 4], "kernel_size": [3, 3, 1], "bias": True, "skip": True}
    estimator = TranslationEstimator(2, (9, 10), **network, bits=bits)
    x = torch.randint(256, (16, 2, 9, 10), dtype=torch.uint8)
    expected = estimator.exact_scores(x)
    assert expected.dtype == torch.float64
    for dtype in (torch.int32, torch.int64, torch.float16, torch.float32, torch.float64):
        assert torch.equal(estimator.exact_scores(x.to(dtype)), expected)
    assert torch.equal(estimator.exact_scores(x.double() * 2.0**700), expected)
