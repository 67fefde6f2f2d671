import re

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from eqrestore_lightning.functional import circular_shift, rotate
from eqrestore_lightning.motions import Product, QuarterTurn, Shift, Turn
from eqrestore_lightning.nn import TranslationEstimator
from eqrestore_lightning.transforms import RandomMotion, RestoreTransform


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _images(*batch):
    return torch.randint(0, 256, (*batch, 3, 12, 10), dtype=torch.uint8)


@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (0,)])
def test_every_image_is_moved_by_a_motion_of_its_own(batch):
    x = _images(*batch)
    before = x.clone()
    moved = RandomMotion(Shift(), generator=_seeded())(x)
    assert moved.shape == x.shape
    assert moved.dtype == x.dtype
    flat = x.reshape(-1, 3, 12, 10)
    shift = Shift().draw(len(flat), (12, 10), generator=_seeded())["shift"]
    assert torch.equal(moved.reshape(flat.shape), circular_shift(flat, shift))
    assert torch.equal(x, before)


def test_each_call_moves_anew_and_a_seed_repeats():
    x = _images(20)
    move = RandomMotion(Shift(), generator=_seeded())
    first, second = move(x), move(x)
    assert not torch.equal(first, second)
    assert torch.equal(RandomMotion(Shift(), generator=_seeded())(x), first)
    torch.manual_seed(5)
    first = RandomMotion(Shift())(x)
    torch.manual_seed(5)
    assert torch.equal(RandomMotion(Shift())(x), first)


@pytest.mark.parametrize("size", [(19,), (12, 10), (5, 6, 7)])
def test_signals_images_and_volumes(size):
    x = torch.rand(4, 2, *size)
    motion = Shift(tuple(range(-len(size), 0)))
    moved = RandomMotion(motion, num_spatial_dims=len(size), generator=_seeded())(x)
    element = motion.draw(4, size, generator=_seeded())
    assert torch.equal(moved, motion.apply(x, element))


def test_masks_move_along_and_are_not_mixed():
    image = tv_tensors.Image(_images(6))
    mask = tv_tensors.Mask(100 * torch.randint(1, 3, (6, 12, 10)))
    moved, moved_mask = RandomMotion(Shift(), generator=_seeded())(image, mask)
    shift = Shift().draw(6, (12, 10), generator=_seeded())["shift"]
    assert torch.equal(moved, circular_shift(image, shift))
    assert isinstance(moved_mask, tv_tensors.Mask)
    assert torch.equal(moved_mask, circular_shift(mask[:, None], shift)[:, 0])
    turned, turned_mask = RandomMotion(Turn(), generator=_seeded())(image, mask)
    angle = Turn().draw(6, (12, 10), generator=_seeded())["angle"]
    assert torch.equal(turned, rotate(image.as_subclass(torch.Tensor), angle))
    assert set(turned_mask.unique().tolist()) == {0, 100, 200}
    message = "Expected images or maps of shape (6, ..., 12, 10), but got (5, 12, 10)."
    with pytest.raises(ValueError, match=re.escape(message)):
        RandomMotion(Shift())(image, tv_tensors.Mask(mask[:5]))


def test_it_is_what_restoring_undoes():
    restore = RestoreTransform(TranslationEstimator(3, (12, 10), kernel_size=3))
    x = _images(20)
    assert torch.equal(v2.Compose([RandomMotion(Shift()), restore])(x), restore(x))
    lossy = RandomMotion(Shift(fill="zeros"), generator=_seeded())
    assert not torch.equal(restore(lossy(x)), restore(x))  # what has left is gone


def test_what_cannot_be_moved_is_refused():
    message = "Expected images of shape (..., channels, *spatial) with 2 spatial axes, but got "
    with pytest.raises(ValueError, match=re.escape(message + "(12, 10).")):
        RandomMotion(Shift())(torch.zeros(12, 10))


def test_images_that_the_motion_does_not_fit_are_refused():
    RandomMotion(Shift(max_shift=10))(_images())
    message = "Expected `max_shift` to be from 0 to the size of the image, 10, but got 11."
    with pytest.raises(ValueError, match=re.escape(message)):
        RandomMotion(Shift(max_shift=11))(_images())
    with pytest.raises(ValueError, match=r"one by one, or crop them to squares\.$"):
        RandomMotion(Product(QuarterTurn(), Shift()), generator=_seeded())(_images(9))


@pytest.mark.parametrize("number", [0, 4])
def test_other_numbers_of_axes_are_refused(number):
    message = f"Expected `num_spatial_dims` to be from 1 to 3, but got {number}."
    with pytest.raises(ValueError, match=re.escape(message)):
        RandomMotion(Shift(), num_spatial_dims=number)
