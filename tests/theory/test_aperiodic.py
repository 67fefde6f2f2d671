import itertools
import re

import pytest
import torch

from eqrestore_lightning import MNISTDataModule
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.theory import find_translates, is_aperiodic

SIZES = [(7,), (12,), (4, 6), (5, 5), (3, 4, 2)]
DTYPES = [torch.bool, torch.uint8, torch.int16, torch.int64]


def _all_translates(images):
    """List every pair with every shift, by the definition."""
    size = images.shape[2:]
    axes = tuple(range(1, images.ndim - 1))
    found = set()
    for shift in itertools.product(*map(range, size)):
        for (a, x), (b, y) in itertools.product(enumerate(images), repeat=2):
            if torch.equal(x.roll(shift, axes), y) and (a < b or (a == b and any(shift))):
                found.add((a, b, shift))
    return found


def _assert_finds_all(images):
    found, expected = find_translates(images), _all_translates(images)
    assert {tuple(one) for one in found} <= expected
    # each image that is a shift of earlier ones once, with the first; each periodic image once
    assert {one.second for one in found if one.first != one.second} == {
        b for a, b, _ in expected if a != b
    }
    for one in found:
        assert one.first == min(a for a, b, _ in expected if b == one.second and (
            (a == b) == (one.first == one.second)))  # fmt: skip
    assert {one.first for one in found if one.first == one.second} == {
        a for a, b, _ in expected if a == b
    }
    assert is_aperiodic(images) == (not any(any(shift) for _, _, shift in expected))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_random_sets_equal_the_definition(size, dtype):
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 2, (8, 1 + seed % 2, *size), generator=generator).to(dtype)
        images[5] = images[0].roll(1, -1)
        images[6] = images[1]
        images[7] = images[7][(slice(None), *[slice(1)] * len(size))]  # constant
        before = images.clone()
        _assert_finds_all(images)
        assert torch.equal(images, before)


@pytest.mark.parametrize("size", [(6, 4), (6, 6), (9, 3)])
def test_every_period_is_found(size):
    for shift in itertools.product(*map(range, size)):
        image = torch.randint(0, 1000, (1, 1, *size))
        moved, orbit = image, image.clone()
        for _ in range(size[0] * size[1]):
            moved = circular_shift(moved, torch.tensor([shift]))
            orbit = torch.minimum(orbit, moved)
        assert is_aperiodic(orbit) == (not any(shift))


def test_the_shift_leads_from_the_first_to_the_second():
    image = torch.randint(0, 256, (3, 9, 14), dtype=torch.uint8)
    images = torch.stack([image + 1, image, image.roll((2, -3), (1, 2)), image])
    assert find_translates(images) == [(1, 2, (2, 11)), (1, 3, (0, 0))]
    assert not is_aperiodic(images)


def test_duplicates_alone_are_no_harm():
    image = torch.randint(0, 256, (1, 1, 9, 14))
    images = torch.cat([image, image])
    assert find_translates(images) == [(0, 1, (0, 0))]
    assert is_aperiodic(images)


def test_channels_move_together():
    image = torch.randint(0, 256, (1, 2, 8, 9))
    apart = torch.stack([image[:, 0].roll(1, 1), image[:, 1]], 1)
    assert is_aperiodic(torch.cat([image, apart, image.flip(1)]))
    assert not is_aperiodic(torch.cat([image, image.roll(1, 2)]))


def test_images_that_share_their_pixels_are_told_apart():
    image = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    image[0, 0, [0, 0, 3], [0, 1, 4]] = 1
    assert is_aperiodic(torch.cat([image, image.flip(2), image.flip(3)]))


def test_equal_keys_are_still_compared(monkeypatch):
    import eqrestore_lightning.theory._aperiodic as module

    monkeypatch.setattr(module, "_mix", lambda numbers: numbers * 0)
    _assert_finds_all(torch.randint(0, 2, (20, 1, 2, 4)))


def test_empty_sets_are_aperiodic():
    assert find_translates(torch.zeros(0, 1, 4, 5, dtype=torch.uint8)) == []
    assert is_aperiodic(torch.zeros(0, 1, 4, 5, dtype=torch.uint8))


def test_rejections():
    message = "Expected `images` to be integers, but got torch.float32."
    with pytest.raises(TypeError, match=re.escape(message)):
        is_aperiodic(torch.zeros(2, 1, 4))
    is_aperiodic(torch.zeros(2, 1, 4, dtype=torch.int32))
    message = "with no empty axis except the first, but got (2, 4)."
    with pytest.raises(ValueError, match=re.escape(message)):
        find_translates(torch.zeros(2, 4, dtype=torch.int32))


def test_mnist_is_aperiodic_but_for_what_is_put_in(mnist_root):
    images = MNISTDataModule(mnist_root).dataset("test").images[:2000].clone()
    assert is_aperiodic(images)
    images[777] = images[5].roll((3, -4), (1, 2))
    images[1000] = 7
    images[1500] |= images[1500].roll(16, 2)
    assert find_translates(images) == [
        (5, 777, (3, 28)),
        (1000, 1000, (16, 0)),
        (1500, 1500, (0, 16)),
    ]
