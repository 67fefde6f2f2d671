"""float64, the largest score, and equal ones decided by content."""

import re

import pytest
import torch

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._exact import (
    as_float64,
    best_index,
    content_keys,
    hash_weights,
)
from eqrestore_lightning.functional._shift import index_to_shift, random_shift, shift_to_index


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16])
def test_values_are_kept(dtype):
    x = torch.randint(0, 2, (3, 4)).to(dtype)
    assert as_float64(x).dtype == torch.float64
    assert torch.equal(as_float64(x).to(dtype), x)


def test_samples_whose_scores_are_not_numbers_have_index_0():
    scores = torch.tensor([[float("nan")] * 3, [1.0, 0.0, 2.0]])
    assert best_index(scores, torch.rand(2, 1, 3)).tolist() == [0, 2]


def test_scores_without_places_are_refused():
    assert best_index(torch.rand(0, 3, 4), torch.rand(0, 1, 3, 4)).shape == (0,)
    for shape in ((4,), (4, 0), (4, 3, 0)):
        message = (
            f"Expected `scores` to have shape (batch, *spatial) with at least one place, "
            f"but got {shape}."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            best_index(torch.rand(shape), torch.rand(4, 1, 3))


@pytest.mark.parametrize("size", [(9,), (6, 7)])
def test_the_choice_among_equal_scores_follows_the_image(size):
    x = torch.randint(0, 256, (5, 2, *size)).double()
    shift = random_shift(5, 9, num_spatial_dims=len(size))
    scores = torch.zeros(5, *size)
    found = index_to_shift(best_index(scores, x), size)
    moved = index_to_shift(best_index(scores, circular_shift(x, shift)), size)
    assert torch.equal(shift_to_index(moved, size), shift_to_index(found + shift, size))
    faint = torch.ones(1, 1, *size, dtype=torch.float64)  # only a later key tells places apart
    faint.flatten()[3] -= 2.0**-36
    faint = torch.cat([faint, circular_shift(faint, shift[:1])])
    found = index_to_shift(best_index(scores[:2], faint), size)
    assert torch.equal(shift_to_index(found[1:], size), shift_to_index(found[:1] + shift[:1], size))


@pytest.mark.parametrize("size", [(9,), (6, 7), (3, 4, 5)])
def test_keys_follow_the_image_bit_for_bit(size):
    x = torch.rand(4, 2, *size, dtype=torch.float64)
    shift = random_shift(4, 9, num_spatial_dims=len(size))
    keys, moved = list(content_keys(x)), list(content_keys(circular_shift(x, shift)))
    assert len(keys) == len(moved) == 12
    for key, after in zip(keys, moved, strict=True):
        assert key.shape == (4, *size)
        assert torch.equal(after, circular_shift(key.unsqueeze(1), shift).squeeze(1))


def _num_places_told_apart(x):
    return torch.stack(list(content_keys(x))).flatten(1).unique(dim=1).shape[1]


def test_keys_tell_every_place_of_an_image_apart_and_those_of_a_periodic_one_not():
    x = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    x[0, 0, 2, 3] = 1
    assert _num_places_told_apart(x) == 48
    assert _num_places_told_apart(0 * x + 3) == 1
    periodic = torch.rand(1, 1, 6, 4, dtype=torch.float64).repeat(1, 1, 1, 2)
    for key in content_keys(periodic):
        assert torch.equal(key[..., :4], key[..., 4:])


def test_faint_features_are_seen_by_later_keys():
    x = torch.ones(1, 1, 6, 8, dtype=torch.float64)
    x[0, 0, 2, 3] -= 2.0**-36
    assert len(next(content_keys(x)).unique()) == 1
    assert _num_places_told_apart(x) == 48


@pytest.mark.parametrize("exponent", [-890, -880, 900])
def test_keys_do_not_depend_on_a_power_of_two(exponent):
    x = torch.randint(-500, 500, (3, 2, 6, 7)).double()
    for key, other in zip(content_keys(x), content_keys(x * 2.0**exponent), strict=True):
        assert torch.equal(key, other)


def test_pseudo_random_numbers_are_the_same_on_every_machine_and_release():
    assert hash_weights((2, 2)).tolist() == [[3965467805, 7215395407], [1643220641, 1291325077]]
    keys = list(content_keys(torch.tensor([[[5.0, 1.0, 4.0]]], dtype=torch.float64)))
    assert keys[0].tolist() == [[1821.0, 1655.375, 1573.625]]
    assert keys[2].tolist() == [[658.125, 1453.875, 1129.25]]


def test_ties_among_copies_are_broken_where_copies_have_fewer_scores_than_places():
    image = torch.randint(0, 256, (3 * 4, 1, 5, 5)).double()  # four copies of each of three images
    scores = torch.zeros(3, 4)
    expected = next(content_keys(image)).reshape(3, 4, 25)[..., 0].argmax(1)
    images = image.unflatten(0, (3, 4))
    found = best_index(scores, images, lambda images: images.flatten(0, 1))
    assert torch.equal(found, expected)


def test_only_images_whose_scores_tie_are_prepared():
    scores = torch.tensor([[1.0, 2.0, 0.0], [3.0, 3.0, 1.0], [0.0, 1.0, 2.0], [4.0, 4.0, 4.0]])
    image = torch.randint(0, 256, (4, 1, 3), dtype=torch.uint8)
    seen = []

    def prepare(x):
        seen.append(x)
        return x.double()

    found = best_index(scores, image, prepare)
    assert found[[0, 2]].tolist() == [1, 2]
    assert torch.equal(torch.cat(seen), image[[1, 3]])
    assert torch.equal(
        found,
        torch.cat(
            [best_index(*each) for each in zip(scores.split(1), image.split(1), strict=True)]
        ),
    )


@pytest.mark.parametrize("dims", [(0, 0), (1, 0), (0, 2), (None, 0)])
def test_vmap_gives_the_indices_of_a_loop(dims):
    scores = torch.rand(5, 2, 6).sub(0.5).clamp(min=0)  # with ties among the zeros
    image = torch.randint(0, 256, (5, 2, 1, 6)).double()
    scores[1:3] = 0
    loop = [best_index(scores[0 if dims[0] is None else i], image[i]) for i in range(5)]
    given = scores[0] if dims[0] is None else scores.movedim(0, dims[0])
    found = torch.func.vmap(best_index, in_dims=dims)(given, image.movedim(0, dims[1]))
    assert torch.equal(found, torch.stack(loop))
