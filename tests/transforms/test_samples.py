"""Samples of which only a part would be moved are refused."""

import re

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from eqrestore_lightning import CanonicalCrop, RandomMotion, RestoreTransform, Shift

TRANSFORMS = {
    "restore": lambda: RestoreTransform("photo"),
    "random": lambda: RandomMotion(Shift()),
    "crop": lambda: CanonicalCrop(32),
}


def _image(*shape):
    return torch.randint(0, 256, shape or (3, 40, 48), dtype=torch.uint8)


@pytest.fixture(params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param]()


def test_labels_pass(transform):
    image, label = _image(), torch.tensor([3, 1])
    one_hot, text = torch.eye(10)[3:5], "a cat"  # of the rank of an image, of another size
    for sample in ((image, label), {"image": image, "label": label, "more": [one_hot, text]}):
        moved = transform(sample)
        assert type(moved) is type(sample)
    assert transform((image, label))[1] is label
    assert transform((tv_tensors.Image(image), label, np.float32(3)))[1] is label


@pytest.mark.parametrize(
    "sample",
    [
        lambda: [_image(), _image()],
        lambda: (_image(), _image(40, 48).long()),
        lambda: {"image": tv_tensors.Image(_image()), "mask": _image(1, 40, 48)},
        lambda: (_image(2, 3, 40, 48), torch.zeros(2, 40, 48)),
    ],
)
def test_a_second_image_or_a_plain_mask_is_refused(transform, sample):
    message = "Expected one image, and masks as `tv_tensors.Mask`, but got a plain tensor of shape"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        transform(sample())


def test_masks_move_along():
    image = _image()
    mask = tv_tensors.Mask(image[0] > 100)
    restored, moved = RestoreTransform("photo")(image, mask)
    assert torch.equal(moved, restored[0] > 100)


def test_numpy_arrays_are_refused(transform):
    array = _image().numpy()
    for sample in (array, (array, 3), (_image(), array)):
        with pytest.raises(TypeError, match=r"^Expected tensors, but got a NumPy array of shape"):
            transform(sample)
