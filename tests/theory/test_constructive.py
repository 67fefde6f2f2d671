import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning import RestoreTransform, load_estimator, save_estimator
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift, scores_to_shift
from eqrestore_lightning.nn import CircularConv
from eqrestore_lightning.theory import ConstructedEstimator, is_aperiodic
from eqrestore_lightning.theory._constructive import BinaryDecomposition

SHAPES = [(1, 17), (2, 9), (1, 6, 7), (3, 5, 4), (2, 3, 4, 5)]  # channels, *spatial


def _all_shifts(image):
    """Return every circular shift of one image, and the shifts."""
    size = image.shape[1:]
    places = torch.cartesian_prod(*map(torch.arange, size)).reshape(-1, len(size))
    return circular_shift(image.expand(len(places), *image.shape), places), places


def _random_images(shape, *, highest, num_images=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, highest + 1, (num_images, *shape), generator=generator)
    assert is_aperiodic(images)
    return images


def _nested(length=60, count=9):
    """Return signals of which each holds all smaller ones in one other place: votes must double."""
    images = torch.zeros(count, 1, length, dtype=torch.uint8)
    for number in range(count):
        images[number, 0, number : number + number * (number + 1) // 2 + 1] = 1
    return images


@pytest.mark.parametrize("num_bits", [1, 3, 8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_are_those_of_the_integers(num_bits, shape, dtype):
    values = torch.randint(0, 2**num_bits, (7, *shape))
    x = values.to(dtype)
    decompose = BinaryDecomposition(shape[0], num_bits, num_spatial_dims=len(shape) - 1)
    bits = decompose(x)
    expected = torch.cat([(values >> bit) & 1 for bit in reversed(range(num_bits))], dim=1)
    assert bits.dtype == dtype
    assert torch.equal(bits, expected.to(dtype))
    assert torch.equal(x, values.to(dtype))
    assert decompose(x[:0]).shape == (0, num_bits * shape[0], *shape[1:])


def test_every_integer_of_16_bits_is_decomposed():
    values = torch.arange(2**16).reshape(1, 1, 256, 256)
    bits = BinaryDecomposition(1, 16)(values.float())
    weights = 2.0 ** torch.arange(15, -1, -1).reshape(1, 16, 1, 1)
    assert torch.equal((bits * weights).sum(1), values[:, 0].float())
    assert set(bits.unique().tolist()) == {0.0, 1.0}


def test_the_decomposition_has_the_depth_and_width_of_the_lemma():
    decompose = BinaryDecomposition(3, 5)
    assert len(decompose.layers) == 10
    assert all(
        isinstance(layer, CircularConv) and layer.num_spatial_dims == 2
        for layer in decompose.layers
    )
    assert max(layer.out_channels for layer in decompose.layers) == 3 * (5 + 1)
    assert {layer.kernel_size for layer in decompose.layers} == {(1, 1)}


@pytest.mark.parametrize("shape", SHAPES)
def test_templates_score_as_the_lemma_says(shape):
    images = _random_images(shape, highest=1)
    estimator = ConstructedEstimator.from_images(images, num_bits=1)
    order = images.flatten(1).sum(1).argsort(stable=True)
    votes = estimator.vote.filters().flatten()
    z = _random_images(shape, highest=1, seed=1)
    z[0] = 1  # every template lies inside, everywhere
    expected = torch.zeros(len(z), *shape[1:], dtype=torch.float64)
    for vote, template in zip(votes.tolist(), images[order], strict=True):
        moved, places = _all_shifts(template)
        inside = (moved.unsqueeze(0) <= z.unsqueeze(1)).flatten(2).all(2)
        expected += vote * inside.reshape(len(z), *shape[1:])
        assert len(places) == inside.shape[1]
    assert torch.equal(estimator.exact_scores(z), expected)
    assert torch.equal(estimator(z.float()), expected.float())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_bits", [1, 5])
def test_every_shift_of_every_image_is_restored(shape, num_bits):
    images = _random_images(shape, highest=2**num_bits - 1)
    restore = RestoreTransform(ConstructedEstimator.from_images(images, num_bits=num_bits))
    for image in images:
        moved, places = _all_shifts(image)
        assert torch.equal(restore(moved), image.expand_as(moved))
        size = torch.tensor(image.shape[1:])
        found = restore.find(moved)
        assert torch.equal(found.motion["shift"] % size, places)
        assert (found.margin >= 1).all()


def test_images_inside_one_another_need_votes():
    images = _nested()
    estimator = ConstructedEstimator.from_images(images, num_bits=1)
    assert estimator.vote.filters().flatten().tolist() == [2.0**n for n in range(9)]
    restore = RestoreTransform(estimator)
    for image in images:
        moved, _ = _all_shifts(image)
        assert torch.equal(restore(moved), image.expand_as(moved))
    estimator.vote.weight.fill_(1)  # the negative control: one image, one vote
    found = scores_to_shift(estimator.exact_scores(images))
    assert found.count_nonzero() > 0


def test_weights_that_outgrow_float32_are_refused():
    images = _nested(length=360, count=26)
    constructed = ConstructedEstimator.from_images(images[:25], num_bits=1)
    assert constructed.vote.filters().max() == 2**24
    images = images.flip(0)  # the last image, now first, needs most
    message = "Expected weights of at most 16777216, which float32 holds exactly, but image 0 "
    with pytest.raises(ValueError, match=re.escape(message + "needs 33554432:")):
        ConstructedEstimator.from_images(images, num_bits=1)


def test_sets_that_are_not_aperiodic_are_refused():
    images = _random_images((1, 6, 8), highest=255, num_images=5)
    ConstructedEstimator.from_images(images)
    changes = {
        "image 1 shifted by (2, 5) is image 4.": images[1].roll((2, -3), (1, 2)),
        "image 4 shifted by (0, 4) is image 4.": images[4] | images[4].roll(4, 2),
        "image 4 shifted by (3, 0) is image 4.": images[4] * 0,
    }
    for message, image in changes.items():
        changed = torch.cat([images[:4], image.unsqueeze(0)])
        with pytest.raises(ValueError, match=re.escape(message)):
            ConstructedEstimator.from_images(changed)
    many = torch.cat([images, images.roll(1, 3)])
    with pytest.raises(ValueError, match=r"is image 5, .* is image 6, .* is image 7 and 2 more\."):
        ConstructedEstimator.from_images(many)


def test_duplicates_are_stored_once():
    images = _random_images((1, 6, 7), highest=255, num_images=5)
    estimator = ConstructedEstimator.from_images(torch.cat([images, images]))
    assert estimator.num_templates == 5
    assert scores_to_shift(estimator.exact_scores(images)).count_nonzero() == 0


@pytest.fixture
def estimator():
    return ConstructedEstimator.from_images(_random_images((2, 6, 7), highest=255))


def test_the_stack_has_the_depth_of_the_theorem(estimator):
    layers = [module for module in estimator.modules() if isinstance(module, CircularConv)]
    assert len(layers) == 2 * 8 + 2
    assert not any(parameter.requires_grad for parameter in estimator.parameters())


def test_round_trip(estimator, tmp_path):
    save_estimator(estimator, tmp_path / "e.safetensors")
    loaded = load_estimator(tmp_path / "e.safetensors")
    assert isinstance(loaded, ConstructedEstimator)
    assert loaded.config == estimator.config
    x = _random_images((2, 6, 7), highest=255, seed=3)
    x[:5] = _random_images((2, 6, 7), highest=255)[:5]
    assert torch.equal(loaded.exact_scores(x), estimator.exact_scores(x))
    restore = RestoreTransform(tmp_path / "e.safetensors")
    images = _random_images((2, 6, 7), highest=255).to(torch.uint8)
    shift = random_shift(len(images), 7)
    assert torch.equal(restore(circular_shift(images, shift)), images)


def test_images_may_be_scaled_as_torchvision_does(estimator):
    images = _random_images((2, 6, 7), highest=255).to(torch.uint8)
    expected = estimator.exact_scores(images)
    assert estimator.margin(expected).min() >= 1
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(estimator.exact_scores(images.to(dtype) / 255), expected)
    assert torch.equal(estimator.exact_scores(images.long()), expected)


def test_unknown_images_are_restored_to_the_same_image_for_every_shift(estimator):
    restore = RestoreTransform(estimator)
    for image in torch.rand(5, 2, 6, 7):
        moved, _ = _all_shifts(image)
        restored = restore(moved)
        assert torch.equal(restored, restored[:1].expand_as(restored))


def test_images_that_are_not_finite_stay_where_they_are(estimator):
    x = torch.rand(2, 2, 6, 7)
    x[0, 1, 3, 4] = torch.inf
    scores = estimator.exact_scores(x)
    assert scores.isnan().flatten(1).all(1).tolist() == [True, False]
    assert estimator.locate(scores, x)["shift"][0].tolist() == [0, 0]


def test_empty_batches_and_autocast(estimator):
    x = _random_images((2, 6, 7), highest=255).to(torch.uint8)
    empty = x[:0]
    assert estimator.locate(estimator.exact_scores(empty), empty)["shift"].shape == (0, 2)
    expected = estimator.exact_scores(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(estimator.exact_scores(x), expected)


def test_scale_scores_changes_margins_only(estimator):
    x = _random_images((2, 6, 7), highest=255)
    before = estimator.exact_scores(x)
    estimator.scale_scores(0.25)
    assert_close(estimator.exact_scores(x), before / 4, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"to be finite and above 0, but got nan\."):
        estimator.scale_scores(float("nan"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConstructedEstimator(1, (4,), num_templates=1, num_bits=17),
         "`num_bits` to be from 1 to 16, but got 17."),
        (lambda: ConstructedEstimator(0, (4,), num_templates=1),
         "`in_channels` to be at least 1, but got 0."),
        (lambda: ConstructedEstimator(1, (), num_templates=1),
         "`spatial_size` to be one to three sizes of at least 1, but got ()."),
        (lambda: ConstructedEstimator(1, (4,), num_templates=0),
         "`out_channels` to be at least 1, but got 0."),
        (lambda: ConstructedEstimator.from_images(torch.tensor([[[0, 256]]])),
         "`images` to hold 0 to 255, which have 8 bits, but got 0 to 256."),
        (lambda: ConstructedEstimator.from_images(torch.tensor([[[0, -1]]])),
         "`images` to hold 0 to 255, which have 8 bits, but got -1 to 0."),
        (lambda: ConstructedEstimator.from_images(torch.zeros(0, 1, 3, dtype=torch.uint8)),
         "with at least one image, but got (0, 1, 3)."),
        (lambda: ConstructedEstimator(1, (4,), num_templates=1).exact_scores(torch.zeros(1, 1, 5)),
         "`x` to have shape (batch, 1, 4), but got (1, 1, 5)."),
    ],
)  # fmt: skip
def test_rejections(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_floating_images_are_no_set():
    ConstructedEstimator.from_images(torch.tensor([[[0, 1]]]))
    with pytest.raises(TypeError, match=r"`images` to be integers, but got torch\.float32\."):
        ConstructedEstimator.from_images(torch.tensor([[[0.0, 1.0]]]))
