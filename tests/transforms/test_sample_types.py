"""What happens to each type of thing in a sample: a contract like that of torchvision's own."""

import copy
import math
import pickle
import re
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pytest
import torch
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves
from torchvision import transforms as v1, tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import CanonicalCrop, RandomMotion, RestoreTransform, Shift

SIZE = (40, 48)
TRANSFORMS = {
    "restore": lambda: RestoreTransform("photo"),
    "random": lambda: RandomMotion(Shift(max_shift=9), generator=torch.Generator().manual_seed(3)),
    "crop": lambda: CanonicalCrop(32, step=4),
}


@pytest.fixture(scope="module", params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param]()


@pytest.fixture
def still(transform):
    """The same transform, which does what it did before: no new motion at each call."""

    def call(*sample):
        if isinstance(transform, RandomMotion):
            transform.generator.manual_seed(3)
        return transform(*sample)

    return call


def _pixels(*batch, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(math.prod(batch), 3, 5, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")
    x = (smooth.reshape(*batch, 3, *SIZE) * 255).byte().roll((7, 11), (-2, -1))
    return x if dtype == torch.uint8 else x.to(dtype) / 255


IMAGES = {
    "uint8": lambda: _pixels(),
    "float32": lambda: _pixels(dtype=torch.float32),
    "float64": lambda: _pixels(dtype=torch.float64),
    "float16": lambda: _pixels(dtype=torch.float16),
    "int32": lambda: _pixels().int(),
    "batch": lambda: _pixels(4),
    "batch of batches": lambda: _pixels(2, 3),
    "empty batch": lambda: _pixels(2)[:0],
    "Image": lambda: tv_tensors.Image(_pixels()),
    "batch of Images": lambda: tv_tensors.Image(_pixels(3)),
    "Video": lambda: tv_tensors.Video(_pixels(5)),
    "batch of Videos": lambda: tv_tensors.Video(_pixels(2, 3)),
    "PIL": lambda: TF.to_pil_image(_pixels()),
}
ALONG = {
    "Mask": lambda: tv_tensors.Mask(_pixels()[0] > 100),
    "several Masks": lambda: tv_tensors.Mask(_pixels() // 50),
    "boxes": lambda: tv_tensors.BoundingBoxes([[3, 4, 9, 7]], format="XYXY", canvas_size=SIZE),
    "KeyPoints": lambda: tv_tensors.KeyPoints([[20.0, 17.0]], canvas_size=SIZE),
}
PASSES = {
    "class": 7,
    "text": "a cat",
    "nothing": None,
    "number": np.float32(0.5),
    "classes": torch.tensor([3, 1]),
    "one-hot": torch.eye(10)[3],
    "object": object(),
    "signal": np.zeros(5),
}


@pytest.mark.parametrize("name", IMAGES)
def test_type_dtype_and_batch_axes_of_images_are_kept(still, name):
    image = IMAGES[name]()
    before = copy.deepcopy(image)
    moved = still(image)
    assert type(moved) is type(image)
    plain, given = (TF.pil_to_tensor(x) if name == "PIL" else x for x in (moved, image))
    assert plain.dtype == given.dtype
    assert plain.device == given.device
    assert plain.shape[:-2] == given.shape[:-2]
    assert torch.equal(given, TF.pil_to_tensor(before) if name == "PIL" else before)
    if given.numel():
        assert not torch.equal(plain, given)  # it does something


@pytest.mark.parametrize("name", ["uint8", "Image", "PIL"])
def test_the_same_pixels_move_alike_whatever_holds_them(still, name):
    moved = still(IMAGES[name]())
    moved = TF.pil_to_tensor(moved) if name == "PIL" else moved.as_subclass(torch.Tensor)
    assert torch.equal(moved, still(_pixels()))
    assert torch.equal(moved, still(_pixels()[None])[0])


def test_frames_of_a_video_and_images_of_a_batch_are_moved_by_themselves():
    frames = torch.stack([_pixels().roll(k, -1) for k in (0, 5, -9)])
    for transform in (TRANSFORMS["restore"](), TRANSFORMS["crop"]()):
        moved = transform(tv_tensors.Video(frames))
        assert torch.equal(
            moved.as_subclass(torch.Tensor), torch.stack(list(map(transform, frames)))
        )
    restore = TRANSFORMS["restore"]()
    assert torch.equal(restore(frames[1]), restore(frames[2]))
    alike = restore.undo(tv_tensors.Video(frames), restore.find(frames[0]))
    assert torch.equal(alike[1].roll(-5, -1), alike[0])  # one motion for the whole clip


@pytest.mark.parametrize("image", ["uint8", "Image", "PIL", "float32"])
@pytest.mark.parametrize("name", ALONG)
def test_what_belongs_to_an_image_moves_along(still, name, image):
    along = ALONG[name]()
    before = along.clone()
    image = IMAGES[image]()
    moved = still({"image": image, "target": [along, "a label"]})
    after = moved["target"][0]
    assert type(after) is type(along)
    assert after.dtype == along.dtype
    assert torch.equal(along, before)
    alone = still(image)
    assert_close(
        TF.to_image(moved["image"]), TF.to_image(alone), rtol=0, atol=0
    )  # it has no say in how
    pixels = TF.pil_to_tensor(alone) if isinstance(alone, PIL.Image.Image) else alone
    if "Mask" in name:
        levels = (pixels * 255).round().byte() if pixels.is_floating_point() else pixels
        expected = levels[0] > 100 if name == "Mask" else levels // 50
        assert torch.equal(after.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))
    else:
        assert not torch.equal(after, along)


@pytest.mark.parametrize("name", PASSES)
def test_everything_else_passes_through(transform, name):
    thing = PASSES[name]
    for sample in ([_pixels(), thing], {"x": tv_tensors.Image(_pixels()), "y": [thing, {}]}):
        moved = transform(sample)
        assert type(moved) is type(sample)
        assert any(leaf is thing for leaf in tree_leaves(moved)) or thing is None


class Pair(NamedTuple):
    image: Any
    label: Any


@pytest.mark.parametrize(
    "sample",
    [
        lambda image, mask: (image, mask),
        lambda image, mask: [mask, {"a": [image], "b": 3}],
        lambda image, mask: OrderedDict(mask=mask, image=image),
        lambda image, mask: Pair(image, {"mask": mask}),
    ],
)
def test_any_nesting(still, sample):
    image, mask = tv_tensors.Image(_pixels()), ALONG["Mask"]()
    nested = sample(image, mask)
    moved = still(nested)
    assert type(moved) is type(nested)
    by_type = {type(leaf): leaf for leaf in tree_leaves(moved)}
    flat = still(image, mask)
    assert torch.equal(by_type[tv_tensors.Image], flat[0])
    assert torch.equal(by_type[tv_tensors.Mask], flat[1])


class Depth(tv_tensors.TVTensor):
    """A type that a user defined."""


REFUSED = {
    "two tensors": (lambda: [_pixels(), _pixels()], TypeError, "Expected one image, and masks as"),
    "two Images": (lambda: [tv_tensors.Image(_pixels())] * 2, ValueError, "Expected one image in"),
    "Image and PIL": (
        lambda: [tv_tensors.Image(_pixels()), TF.to_pil_image(_pixels())],
        ValueError,
        "Expected one image in a sample, but got 2.",
    ),
    "PIL and a plain mask": (
        lambda: [TF.to_pil_image(_pixels()), torch.zeros(SIZE)],
        TypeError,
        "Expected one image, and masks as `tv_tensors.Mask`, but got a plain tensor of shape "
        "(40, 48) beside an image of shape (3, 40, 48), which would not be moved along",
    ),
    "no image": (
        lambda: [ALONG["boxes"](), 3],
        ValueError,
        "Expected one image in a sample, but g",
    ),
    "array": (
        lambda: [np.zeros((40, 48, 3))],
        TypeError,
        "Expected tensors, but got a NumPy array",
    ),
    "own type": (
        lambda: [_pixels(), torch.zeros(SIZE).as_subclass(Depth)],
        TypeError,
        "Expected images, videos, masks, bounding boxes and key points, but got Depth.",
    ),
    "boxes of another size": (
        lambda: [
            _pixels(),
            tv_tensors.BoundingBoxes([[0, 0, 3, 4]], format="XYXY", canvas_size=(40, 47)),
        ],
        ValueError,
        "Expected BoundingBoxes of the image's size (40, 48), but got (40, 47).",
    ),
    "mask of another size": (
        lambda: [_pixels(), tv_tensors.Mask(torch.zeros(40, 47))],
        ValueError,
        "Expected ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_go_wrong_silently_is_refused(transform, name):
    sample, error, message = REFUSED[name]
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        transform(*sample())


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "I;16", "F", "1", "P", "LA", "HSV"])
def test_pil_images_of_other_modes_are_refused(mode):
    message = f"Expected a PIL image of mode L or RGB, but got {mode!r}; `image.convert('RGB')` gi"
    image = PIL.Image.new(mode, SIZE[::-1])
    for name in ("restore", "random"):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            TRANSFORMS[name]()(image)
    restore = TRANSFORMS["restore"]()
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        restore.undo(image, restore.find(_pixels()))


def test_gray_pil_images():
    gray = TF.to_pil_image(_pixels()[:1])
    assert gray.mode == "L"
    moved = TRANSFORMS["random"]()(gray)
    assert moved.mode == "L"
    assert torch.equal(TF.pil_to_tensor(moved), TRANSFORMS["random"]()(_pixels()[:1]))
    with pytest.raises(
        ValueError, match=r"^Expected `x` to have shape \(batch, 3, height, width\)"
    ):
        TRANSFORMS["restore"]()(gray)


def test_find_and_undo_take_pil_images():
    restore, image = TRANSFORMS["restore"](), IMAGES["PIL"]()
    found = restore.find(image)
    assert torch.equal(found.motion["shift"], restore.find(_pixels()).motion["shift"])
    assert restore.undo(image, found).tobytes() == restore(image).tobytes()
    assert restore.redo(restore(image), found).tobytes() == image.tobytes()
    with pytest.raises(TypeError, match=r"^Expected a tensor or a PIL image, but got ndarray\.$"):
        restore.find(np.zeros((40, 48, 3)))
    message = "Expected images, videos, masks, bounding boxes and key points, but got ndarray."
    with pytest.raises(TypeError, match=re.escape(message)):
        restore.undo(np.zeros((40, 48, 3)), found)


@pytest.mark.parametrize("compose", [v2.Compose, v1.Compose, torch.nn.Sequential])
def test_they_compose(compose):
    restore = TRANSFORMS["restore"]()
    steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), restore, v2.Normalize(
        [0.5] * 3, [0.25] * 3
    )]  # fmt: skip
    composed = compose(*steps) if compose is torch.nn.Sequential else compose(steps)
    expected = (restore(_pixels()).float() / 255 - 0.5) / 0.25
    assert_close(composed(IMAGES["PIL"]()), expected)


def test_they_pickle_and_copy_and_tell_what_they_are(transform):
    sample = (tv_tensors.Image(_pixels()), ALONG["boxes"](), ALONG["Mask"]())
    expected = copy.deepcopy(transform)(*sample)
    for twin in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert_close(twin(*sample), expected, rtol=0, atol=0)
    assert type(transform).__name__ in repr(transform)


def test_in_a_pipeline_of_pil_images():
    """As timm builds it, of torchvision's first transforms."""
    steps = [v1.Resize(36), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize([0.5] * 3, [0.5] * 3)]
    plain, restored = v1.Compose(steps), v1.Compose([TRANSFORMS["restore"](), *steps])
    image = TF.to_pil_image(TRANSFORMS["restore"]()(_pixels()))
    wrapped = TF.to_pil_image(_pixels().roll((9, -17), (1, 2)))
    assert torch.equal(restored(wrapped), plain(image))
    assert not torch.equal(plain(wrapped), plain(image))  # the negative control
