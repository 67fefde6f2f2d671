import pickle
import re

import pytest
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.transforms import CanonicalCrop

SIZE = 40  # of the camera's picture
CROP = 24
SLACK = SIZE - CROP


def _scene(*batch, size=(120, 130), dtype=torch.uint8):
    """Draw noise that is faint but for one bright corner in the middle: the landmark."""
    x = torch.randint(0, 40, (*batch, 3, *size), dtype=torch.uint8)
    row, column = size[0] // 2, size[1] // 2
    x[..., row : row + 8, column : column + 8] = 250
    return x if dtype == torch.uint8 else x.to(dtype) / 255


def _picture(scene, top, left, size=SIZE):
    return scene[..., top : top + size, left : left + size]


@pytest.mark.parametrize("step", [1, 5, 8, 17, 32])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.float64])
def test_the_window_stays_for_every_shift_that_keeps_it_in_range(step, dtype):
    scene = _scene(dtype=dtype)
    crop = CanonicalCrop(CROP, step=step)
    choices = min(step, SLACK + 1)
    first = (SLACK + 1 - choices) // 2
    windows = {}
    for top in range(40, 58):  # the landmark is in all of these pictures
        for left in range(44, 62):
            picture = _picture(scene, top, left)
            corner = crop.find(picture)
            assert ((corner >= first) & (corner < first + choices)).all()
            place = (corner + torch.tensor([top, left])).tolist()
            windows.setdefault((place[0] % choices, place[1] % choices), set()).add(tuple(place))
            assert torch.equal(crop(picture), _picture(scene, *place, CROP))
    assert len(windows) == 1  # all windows that were ever chosen lie on one lattice


def test_a_window_is_left_only_when_it_must_be():
    scene = _scene()
    crop = CanonicalCrop(CROP)  # a step as large as the slack allows: one window of the lattice
    kept = 0
    for top in range(40, 57):
        place = crop.find(_picture(scene, top, 50)) + torch.tensor([top, 50])
        after = crop.find(_picture(scene, top + 1, 50)) + torch.tensor([top + 1, 50])
        in_range = top + 1 <= place[0] <= top + 1 + SLACK
        assert torch.equal(place, after) == bool(in_range)
        kept += int(in_range)
    assert kept == 16  # of 17 shifts: the lattice has a window in every 17 pixels


def test_neither_the_center_nor_the_smoothest_saliency_keeps_the_window():
    """Negative control: what the classifier sees moves with the camera."""
    scene = _scene()
    pictures = [_picture(scene, 45 + d, 50 + d) for d in range(5)]
    center = [v2.CenterCrop(CROP)(picture) for picture in pictures]
    assert not any(torch.equal(center[0], other) for other in center[1:])

    def salient(picture):  # the window of the largest contrast, as a smooth score would choose
        energy = picture.float().sum(0)
        energy = (energy - energy.mean()).square()[None, None]
        score = nn.functional.avg_pool2d(energy, CROP, stride=1)[0, 0]
        index = int(score.argmax())
        return _picture(picture, index // (SLACK + 1), index % (SLACK + 1), CROP)

    ramp = scene.float() + 4 * torch.arange(130)  # contrast grows to the right
    pictures = [_picture(ramp, 45 + d, 50 + d) for d in range(5)]
    assert not any(torch.equal(salient(pictures[0]), salient(other)) for other in pictures[1:])
    crop = CanonicalCrop(CROP)
    assert all(torch.equal(crop(pictures[0]), crop(other)) for other in pictures[1:])


def test_windows_lie_around_the_center():
    for size, step, low, high in ((40, 8, 4, 11), (40, 32, 0, 16), (80, 32, 12, 43), (25, 8, 0, 1)):
        corners = CanonicalCrop(CROP, step=step).find(torch.rand(400, 1, size, size))
        assert corners.amin() == low
        assert corners.amax() == high


def test_uniform_images_are_cropped_in_the_center():
    for size in (40, 41, 43, 57):
        blank = torch.full((2, 3, size, size + 4), 7)
        found = CanonicalCrop(CROP).find(blank)
        expected = [round((size - CROP) / 2), round((size + 4 - CROP) / 2)]
        assert found.tolist() == [expected] * 2


def test_exposure_does_not_move_the_window():
    picture = _scene(size=(SIZE, SIZE)).float()
    crop = CanonicalCrop(CROP)
    for changed in (picture + 90, picture * 3, (picture * 0.5 + 20)):
        assert torch.equal(crop.find(changed / 255), crop.find(picture / 255))
    as_integers = picture.to(torch.uint8)
    for same in (as_integers.to(torch.int64), as_integers.to(torch.uint16), picture / 255):
        assert torch.equal(crop.find(same), crop.find(as_integers))


def test_pixels_that_are_not_finite_count_as_0():
    picture = _scene(size=(SIZE, SIZE), dtype=torch.float32)
    broken, dark = picture.clone(), picture.clone()
    dark[:, 3, 5] = 0
    for value in (torch.nan, torch.inf, -torch.inf):
        broken[:, 3, 5] = value
        assert torch.equal(CanonicalCrop(CROP).find(broken), CanonicalCrop(CROP).find(dark))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,), (2, 0)])
def test_any_number_of_batch_axes(batch):
    crop = CanonicalCrop((20, CROP))
    x = torch.randint(0, 256, (*batch, 3, SIZE, SIZE + 5), dtype=torch.uint8)
    before = x.clone()
    y = crop(x)
    assert y.shape == (*batch, 3, 20, CROP)
    assert y.dtype == torch.uint8
    assert crop.find(x).shape == (*batch, 2)
    flat = x.flatten(0, -4) if batch else x[None]
    for image, corner, cropped in zip(
        flat, crop.find(x).reshape(-1, 2).tolist(), y.reshape(-1, 3, 20, CROP), strict=True
    ):
        assert torch.equal(cropped, TF.crop(image, *corner, 20, CROP))
        assert torch.equal(cropped, crop(image))
    assert torch.equal(x, before)


@pytest.mark.parametrize("size", [(10, 12), (10, 60), (60, 13), (CROP, CROP), (23, 40), (31, CROP)])
def test_small_images_are_padded_as_by_center_crop(size):
    x = torch.randint(1, 256, (2, 3, *size), dtype=torch.uint8)
    crop, center = CanonicalCrop(CROP), v2.CenterCrop(CROP)
    if max(size) > CROP and min(size) < 16:
        message = (
            f"Expected images of at least 16 × 16 pixels to choose a window in, but got {size}"
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            crop(x)
        return
    y = crop(x)
    assert y.shape == (2, 3, CROP, CROP)
    for axis, length in enumerate(size, start=2):
        if length <= CROP:  # the same lines are padding
            others = tuple({1, 2, 3} - {axis})
            assert torch.equal(
                (y == 0).all(others[0], True).all(others[1]).sum(),
                (center(x) == 0).all(others[0], True).all(others[1]).sum(),
            )
    if max(size) <= CROP:
        assert torch.equal(y, center(x))


def test_gray_and_small_pil_images():
    picture = _scene(size=(SIZE, SIZE + 7))
    crop = CanonicalCrop(CROP)
    cropped = crop(TF.to_pil_image(picture[:1]))
    assert torch.equal(TF.pil_to_tensor(cropped), crop(picture[:1]))
    small = TF.to_pil_image(picture[:, :10, :12])
    assert torch.equal(TF.pil_to_tensor(crop(small)), v2.CenterCrop(CROP)(picture[:, :10, :12]))


def test_masks_boxes_and_key_points_come_along():
    picture = tv_tensors.Image(_scene(size=(SIZE, SIZE + 7)))
    crop = CanonicalCrop(CROP)
    top, left = crop.find(picture).tolist()
    mask = tv_tensors.Mask(picture.as_subclass(torch.Tensor).sum(0))
    canvas = (SIZE, SIZE + 7)
    boxes = tv_tensors.BoundingBoxes(
        [[left, top, left + 5, top + 9]], format="XYXY", canvas_size=canvas
    )
    points = tv_tensors.KeyPoints([[left + 2, top + 3]], canvas_size=canvas)
    image, cropped_mask, cropped_boxes, cropped_points = crop(picture, mask, boxes, points)
    assert isinstance(cropped_mask, tv_tensors.Mask)
    assert torch.equal(cropped_mask, image.as_subclass(torch.Tensor).sum(0))
    assert cropped_boxes.tolist() == [[0, 0, 5, 9]]
    assert cropped_boxes.canvas_size == (CROP, CROP)
    assert cropped_points.tolist() == [[2, 3]]
    batch = tv_tensors.Image(torch.randint(0, 256, (4, 3, *canvas)))
    for shape in ((4, *canvas), (4, 2, *canvas)):
        masks = tv_tensors.Mask(torch.randint(0, 9, shape))
        _, cropped = crop(batch, masks)
        for corner, mask, part in zip(crop.find(batch).tolist(), masks, cropped, strict=True):
            assert torch.equal(part, TF.crop(mask.as_subclass(torch.Tensor), *corner, CROP, CROP))


def test_the_frames_of_a_video_keep_their_window():
    scene = _scene()
    frames = torch.stack([_picture(scene, 45 + d, 50 + d) for d in range(5)])
    steady = CanonicalCrop(CROP)(tv_tensors.Video(frames))
    assert isinstance(steady, tv_tensors.Video)
    assert torch.equal(steady, steady[:1].expand_as(steady))


def test_in_a_pipeline():
    crop = CanonicalCrop(CROP, step=8)
    picture = _scene(size=(64, 80))
    pipeline = v2.Compose([v2.Resize(SIZE), crop, v2.ToDtype(torch.float32, scale=True)])
    assert pipeline(picture).shape == (3, CROP, CROP)
    restored = pickle.loads(pickle.dumps(pipeline))
    assert torch.equal(restored(picture), pipeline(picture))
    assert str(crop) == "CanonicalCrop(size=(24, 24), step=8)"
    assert CanonicalCrop([20]).size == (20, 20)
    model = nn.Sequential(CanonicalCrop(CROP), nn.Conv2d(3, 2, 3))
    images = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    model(images).sum().backward()
    assert (images.grad != 0).sum() == 2 * 3 * CROP * CROP
    assert not torch.equal(images.grad[0] != 0, images.grad[1] != 0)  # each has its own window


def test_what_cannot_be_cropped_is_refused():
    for size in (0, -3, (24, 0), (), (1, 2, 3), (2.5, 3)):
        message = f"Expected `size` to be one or two numbers above 0, but got {size}."
        with pytest.raises(ValueError, match=re.escape(message)):
            CanonicalCrop(size)
    with pytest.raises(ValueError, match=r"Expected `step` to be at least 1, but got 0\."):
        CanonicalCrop(24, step=0)
    crop = CanonicalCrop(CROP)
    canvas = (SIZE, SIZE)
    image = tv_tensors.Image(torch.zeros(3, *canvas))
    boxes = tv_tensors.BoundingBoxes([[0, 0, 3, 4]], format="XYXY", canvas_size=canvas)
    crop(image, boxes)
    with pytest.raises(ValueError, match=r"Expected one image along with BoundingBoxes, but got 2"):
        crop(tv_tensors.Image(torch.zeros(2, 3, *canvas)), boxes)
    message = "Expected a mask for each of 4 images, but got (3, 40, 40)."
    with pytest.raises(ValueError, match=re.escape(message)):
        crop(tv_tensors.Image(torch.zeros(4, 3, *canvas)), tv_tensors.Mask(torch.zeros(3, *canvas)))
    message = "Expected images of shape (..., C, H, W), but got (40, 40)."
    with pytest.raises(ValueError, match=re.escape(message)):
        crop(torch.zeros(canvas))
    with pytest.raises(
        TypeError, match=r"Expected images of a real dtype, but got torch\.complex64"
    ):
        crop(torch.zeros(3, *canvas, dtype=torch.complex64))
