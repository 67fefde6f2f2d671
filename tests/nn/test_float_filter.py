import pytest
import torch

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift
from eqrestore_lightning.nn import TranslationEstimator
from eqrestore_lightning.nn._float_filter import FloatFilter
from eqrestore_lightning.nn._shift import join_axes
from eqrestore_lightning.weights import load_estimator

SMALL = ["digits", "mnist", "mnist3d", "cifar10"]
NETWORKS = {
    "one layer": {"hidden_channels": [], "kernel_size": "full"},
    "separable": {"hidden_channels": [], "kernel_size": "full", "separable": True},
    "two layers": {"hidden_channels": [5], "kernel_size": ["full", 1]},
    "with bias": {"hidden_channels": [6], "kernel_size": ["full", 1], "bias": True},
    "small kernel": {"hidden_channels": [3], "kernel_size": [3, 1], "dilation": 2, "bias": True},
}


def _images(kind, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    if kind == "sparse":
        x *= torch.rand(shape, generator=generator) < 0.02
    elif kind == "float":
        return torch.randn(shape, generator=generator) * 1e3
    return x


def _network(name, channels, size, **options):
    network = TranslationEstimator(channels, size, **{**NETWORKS[name], **options})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    return network


def _float_scores(network, x):
    x = join_axes(x, network.axes)
    return FloatFilter(network._convs(), x.shape, x.device).scores(x)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(8, 8), (13, 11), (32, 32), (97,), (5, 7, 6)])
@pytest.mark.parametrize("kind", ["dense", "sparse", "float"])
@torch.no_grad()
def test_exact_scores_lie_within_the_bound(name, size, kind):
    for seed in range(3):
        torch.manual_seed(seed)
        channels = 1 + 2 * (seed % 2)
        network = _network(name, channels, size)
        x = _images(kind, (6, channels, *size), seed)
        scores, bound = _float_scores(network, x)
        assert scores.dtype == torch.float32
        distance = (scores.double() - network.exact_scores(x)).abs().flatten(1).amax(1)
        assert (distance <= bound).all()
        largest = scores.abs().flatten(1).amax(1)
        assert (bound[largest > 0] <= 0.05 * largest[largest > 0]).all()  # it says something


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_bundled_weights_find_the_same_with_and_without_the_filter(name):
    estimator = load_estimator(name)
    shape = (64, estimator.in_channels, *estimator.spatial_size)
    x = torch.zeros(shape, dtype=torch.uint8)
    inner = tuple(slice(8, size - 8) for size in estimator.spatial_size)
    x[(slice(None), slice(None), *inner)] = _images("dense", x[(..., *inner)].shape)
    x[0] = 0  # blank: every score is equal
    x[1] = x[1].roll(estimator.spatial_size[0] // 2, 1) | x[1]
    x = circular_shift(x, random_shift(64, 20, num_spatial_dims=len(estimator.spatial_size)))
    expected = estimator.locate(estimator.exact_scores(x), x)["shift"]
    assert torch.equal(estimator.estimate(x)["shift"], expected)
    scores, bound = _float_scores(estimator, x)
    best, second = scores.flatten(1).topk(2).values.unbind(1)
    assert (best - second > 2 * bound).float().mean() > 0.5  # most need no exact scores


def test_images_that_repeat_are_left_to_the_exact_scores():
    torch.manual_seed(0)
    network = _network("with bias", 1, (16, 12))
    x = _images("dense", (4, 1, 8, 12)).repeat(1, 1, 2, 1)
    moved = x.roll((5, 3), (2, 3))
    found, other = (network.estimate(each)["shift"] for each in (x, moved))
    assert torch.equal(circular_shift(x, -found), circular_shift(moved, -other))


@pytest.mark.parametrize(("bound", "expected"), [(0.0, 0), (float("inf"), 4), (float("nan"), 4)])
def test_the_bound_decides_which_images_need_exact_scores(monkeypatch, bound, expected):
    network = _network("with bias", 1, (16, 12))
    counted = []
    exact_scores = network.exact_scores

    def wrong(self, x):
        del self
        return torch.randn(len(x), 16, 12), torch.full((len(x),), bound)

    monkeypatch.setattr(FloatFilter, "scores", wrong)
    monkeypatch.setattr(
        network, "exact_scores", lambda x: counted.append(len(x)) or exact_scores(x)
    )
    network.estimate(_images("dense", (4, 1, 16, 12)))
    assert sum(counted) == expected


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float16, torch.float64])
def test_any_dtype(dtype):
    network = _network("with bias", 1, (16, 12))
    x = _images("dense", (16, 1, 16, 12)).to(dtype)
    scores, bound = _float_scores(network, x)
    distance = (scores.double() - network.exact_scores(x)).abs().flatten(1).amax(1)
    assert (distance <= bound).all()


@pytest.mark.parametrize("exponent", [-910, -890, 0, 900])
def test_magnitudes_of_float64(exponent):
    network = _network("with bias", 1, (16, 12))
    x = _images("dense", (8, 1, 16, 12)).double() * 2.0**exponent
    scores, bound = _float_scores(network, x)
    assert bound.isinf().all() == (exponent == -910)
    distance = (scores.double() - network.exact_scores(x)).abs().flatten(1).amax(1)
    assert (distance <= bound).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_not_moved(value):
    network = _network("with bias", 1, (16, 12))
    x = _images("dense", (3, 1, 16, 12)).float()
    x[1, 0, 2, 3] = value
    found = network.estimate(x)["shift"]
    assert (found[1] == 0).all()
    assert torch.equal(found[::2], network.estimate(x[::2])["shift"])


def test_axes_and_empty_batches():
    network = _network("with bias", 3, (16, 12), axes=(-1,))
    x = _images("dense", (5, 3, 16, 12))
    expected = network.locate(network.exact_scores(x), x)["shift"]
    assert torch.equal(network.estimate(x)["shift"], expected)
    assert network.estimate(x[:0])["shift"].shape == (0, 1)


def test_scores_that_overflow_are_in_doubt():
    network = _network("with bias", 1, (8, 8), hidden_channels=[3])
    first, last = network._convs()
    x = _images("dense", (64, 1, 8, 8))
    for seed in (30, 33, 35):
        torch.manual_seed(seed)
        with torch.no_grad():
            first.weight.normal_(std=0.2)
            first.bias.normal_()
            last.weight.copy_(torch.tensor([2e38, 2e38, -3e38]).reshape(1, 3, 1, 1))
        expected = network.locate(network.exact_scores(x), x)["shift"]
        assert torch.equal(network.estimate(x)["shift"], expected)
