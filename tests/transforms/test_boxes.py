"""Boxes and key points go where the image goes."""

import re
from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, KeyPoints

from eqrestore_lightning import (
    CopiesEstimator,
    RandomMotion,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)
from eqrestore_lightning.motions import Product, QuarterTurn, Shift, Turn

SIZE = (24, 30)
SQUARE = (25, 25)
UPRIGHT = ["XYXY", "XYWH", "CXCYWH"]
ROTATED = ["XYWHR", "CXCYWHR", "XYXYXYXY"]
BOXES = [[3.0, 5.0, 9.0, 7.0], [20.0, 2.0, 28.0, 22.0], [0.0, 0.0, 30.0, 24.0]]


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _image(size=SIZE):
    return tv_tensors.Image(torch.randint(0, 256, (3, *size), dtype=torch.uint8))


def _boxes(layout="XYXY", *, size=SIZE, dtype=torch.float32, xyxy=BOXES, **options):
    """Boxes of a format that cover the same pixels."""
    plain = torch.tensor(xyxy)
    if layout in ROTATED:  # turned by 0°
        wide = TF.convert_bounding_box_format(plain, BoundingBoxFormat.XYXY, BoundingBoxFormat.XYWH)
        plain = torch.cat([wide, torch.zeros(len(wide), 1)], 1)
        old = BoundingBoxFormat.XYWHR
    else:
        old = BoundingBoxFormat.XYXY
    plain = TF.convert_bounding_box_format(plain, old, BoundingBoxFormat[layout])
    return BoundingBoxes(plain.to(dtype), format=layout, canvas_size=size, **options)


def _corners(boxes):
    """Return the corners of boxes, sorted: float64 of shape (boxes, 4, 2)."""
    plain = boxes.as_subclass(torch.Tensor).double()
    if tv_tensors.is_rotated_bounding_format(boxes.format):
        plain = TF.convert_bounding_box_format(plain, boxes.format, BoundingBoxFormat.XYXYXYXY)
    else:
        plain = TF.convert_bounding_box_format(plain, boxes.format, BoundingBoxFormat.XYXY)
        plain = plain[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    corners = plain.reshape(-1, 4, 2)
    middle = corners.mean(1, keepdim=True)
    angle = torch.atan2(*(corners - middle).round(decimals=3).unbind(-1))
    return corners.gather(1, angle.argsort(1)[..., None].expand(-1, -1, 2))


def _restorers():
    torch.manual_seed(0)
    small = {"hidden_channels": [2], "kernel_size": 3}
    polar = {"num_radii": 6, "num_angles": 24, **small}
    yield "shifts", TranslationEstimator(3, SQUARE, **small)
    yield "panoramas", TranslationEstimator(3, SQUARE, axes=(-1,), **small)
    mirrors = QuarterTurn(mirrors=True)
    yield "quarter turns", CopiesEstimator(3, motion=mirrors, scorer_options={"channels": [4]})
    yield "turns", RotationEstimator(3, SQUARE, **polar)
    yield "both", RotoTranslationEstimator(3, SQUARE, translation=small, rotation=polar)


RESTORERS = dict(_restorers())


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        *((layout, torch.int64) for layout in UPRIGHT),
        *((layout, torch.float32) for layout in UPRIGHT + ROTATED),
        ("CXCYWH", torch.float64),
    ],
)
def test_a_box_covers_the_same_content_wherever_it_is_shifted(layout, dtype):
    image, boxes = _image(), _boxes(layout, dtype=dtype)
    before = boxes.clone()
    for seed in range(20):
        moved_image, moved = RandomMotion(Shift(), generator=_seeded(seed))(image, boxes)
        assert (moved.format, moved.canvas_size) == (boxes.format, boxes.canvas_size)
        assert moved.dtype == dtype
        assert type(moved) is BoundingBoxes
        for (left, top), (right, bottom), (x, y) in zip(
            _corners(moved).amin(1), _corners(moved).amax(1), _corners(boxes).amin(1), strict=True
        ):
            assert -SIZE[1] / 2 <= left <= SIZE[1]
            height, width = round(float(bottom - top)), round(float(right - left))
            rows = (round(float(top)) + torch.arange(height)) % SIZE[0]
            columns = (round(float(left)) + torch.arange(width)) % SIZE[1]
            x, y = round(float(x)), round(float(y))
            assert torch.equal(
                moved_image[:, rows][:, :, columns], image[:, y : y + height, x : x + width]
            )
    assert torch.equal(boxes, before)


@pytest.mark.parametrize("name", ["shifts", "panoramas", "both"])
def test_a_box_that_wraps_around_comes_back_whole(name):
    restore = RestoreTransform(RESTORERS[name])
    image = _image(SQUARE)
    boxes = _boxes(size=SQUARE, xyxy=[[3.0, 5.0, 9.0, 7.0], [15.0, 2.0, 24.0, 22.0]])
    _, expected = restore(image, boxes)
    axes = (-1,) if name == "panoramas" else (-2, -1)
    beyond = 0
    for seed in range(25):
        sample = RandomMotion(Shift(axes), generator=_seeded(seed))(image, boxes)
        beyond += int((sample[1] < 0).any() or (sample[1] > 25).any())
        assert_close(restore(*sample)[1], expected)
    assert beyond > 5
    if name in ("shifts", "panoramas"):
        widths = (expected[:, 2:] - expected[:, :2]).as_subclass(torch.Tensor)
        assert widths.tolist() == [[6, 2], [9, 20]]


def test_all_quarter_turns_of_a_sample_are_restored_to_the_same_boxes():
    restore = RestoreTransform(RESTORERS["quarter turns"])
    image = _image(SQUARE)
    boxes = _boxes(size=SQUARE, xyxy=[[3.0, 5.0, 9.0, 7.0]], dtype=torch.int64)
    points = KeyPoints([[3, 5], [24, 0]], canvas_size=SQUARE)
    expected = restore(image, boxes, points)
    seen = set()
    for seed in range(12):
        moved = RandomMotion(QuarterTurn(), generator=_seeded(seed))(image, boxes, points)
        seen.add(tuple(moved[1].flatten().tolist()))
        assert_close(restore(*moved), expected, rtol=0, atol=0)
    assert len(seen) == 4


@pytest.mark.parametrize("layout", UPRIGHT + ROTATED)
@pytest.mark.parametrize("angle", [0.0, 30.0, -75.0, 90.0, 200.0])
def test_turned_boxes_lie_where_torchvision_turns_them_to(layout, angle):
    boxes = _boxes(layout, clamping_mode=None)
    _, moved = RandomMotion(Turn((angle, angle)))(_image(), boxes)
    assert_close(_corners(moved), _corners(TF.rotate(boxes, angle)), rtol=0, atol=1e-3)
    assert moved.clamping_mode is None


@pytest.mark.parametrize("layout", UPRIGHT + ROTATED)
def test_turning_back_and_forth(layout):
    turn = Turn((30.0, 30.0))
    boxes = _boxes(layout)
    _, there = RandomMotion(turn)(_image(), boxes)
    _, back = RandomMotion(Turn((-30.0, -30.0)))(_image(), there)
    grown = (_corners(back).amax(1) - _corners(back).amin(1)) > (
        _corners(boxes).amax(1) - _corners(boxes).amin(1)
    ) + 1e-3
    if layout in ROTATED:
        assert_close(_corners(back), _corners(boxes), rtol=0, atol=1e-3)
    else:  # twice the box around it
        assert grown.all()


@pytest.mark.parametrize("layout", UPRIGHT + ROTATED)
def test_mirrored_boxes_lie_where_torchvision_puts_them(layout):
    xyxy = [[3.0, 5.0, 9.0, 7.0], [15.0, 2.0, 24.0, 22.0]]
    boxes = _boxes(layout, size=SQUARE, xyxy=xyxy)
    image = _image(SQUARE)
    for seed in range(20):
        moved_image, moved = RandomMotion(QuarterTurn(mirrors=True), generator=_seeded(seed))(
            image, boxes
        )
        element = QuarterTurn(mirrors=True).draw(1, SQUARE, generator=_seeded(seed))
        flipped = TF.horizontal_flip(boxes) if element["mirrored"] else boxes
        expected = TF.rotate(flipped, 90.0 * int(element["quarters"]))
        assert_close(_corners(moved), _corners(expected), rtol=0, atol=1e-3)
        (left, top), (right, bottom) = _corners(moved)[0].amin(0), _corners(moved)[0].amax(0)
        inside = moved_image[:, int(top.round()) : int(bottom.round())]
        inside = inside[:, :, int(left.round()) : int(right.round())]
        assert sorted(inside.flatten().tolist()) == sorted(image[:, 5:7, 3:9].flatten().tolist())


MOTIONS = [
    Shift(),
    Shift((-1,)),
    QuarterTurn(mirrors=True),
    Product(QuarterTurn(mirrors=True), Shift()),
]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_key_points_stay_on_their_pixels(motion, batch, dtype):
    image = tv_tensors.Image(torch.arange(25 * 25).reshape(SQUARE).expand(*batch, 1, *SQUARE))
    xy = torch.randint(0, 25, (*batch, 4, 7, 2))
    moved, points = RandomMotion(motion, generator=_seeded())(
        image, KeyPoints(xy.to(dtype), canvas_size=SQUARE)
    )
    assert type(points) is KeyPoints
    assert points.dtype == dtype
    assert points.shape == xy.shape
    flat = zip(
        moved.reshape(-1, *SQUARE), points.reshape(-1, 28, 2), xy.reshape(-1, 28, 2), strict=True
    )
    for one, after, before in flat:
        x, y = after.as_subclass(torch.Tensor).long().T
        assert torch.equal(one[y, x].as_subclass(torch.Tensor), before[:, 1] * 25 + before[:, 0])
    assert not torch.equal(points, xy.to(dtype))


def test_one_box_for_each_image_of_a_batch():
    images = torch.stack([_image().as_subclass(torch.Tensor)] * 4)
    plain = torch.tensor([BOXES[0]] * 4)
    boxes = BoundingBoxes(plain, format="XYXY", canvas_size=SIZE)
    moved = RandomMotion(Shift(), generator=_seeded())(images, boxes)[1]
    shift = Shift().draw(4, SIZE, generator=_seeded())["shift"]
    wrapped = (moved - plain - shift.flip(1).repeat(1, 2)) % torch.tensor([30, 24] * 2)
    assert (wrapped == 0).all()
    assert len(moved.unique(dim=0)) > 1
    message = (
        "Expected boxes or key points for each image of a batch of shape (4,), but got (3,) of "
        "them."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RandomMotion(Shift())(images, _boxes())


def test_all_boxes_belong_to_the_image_of_a_batch_of_one():
    image, boxes = _image(), _boxes()
    points = KeyPoints([[1.0, 2.0], [3.0, 4.0]], canvas_size=SIZE)
    expected = RandomMotion(Shift(), generator=_seeded())(image, boxes, points)
    for batch in ((1,), (1, 1)):
        images = image.reshape(*batch, *image.shape)
        moved = RandomMotion(Shift(), generator=_seeded())(images, boxes, points)
        assert_close(moved[1:], expected[1:], rtol=0, atol=0)


def test_lossy_shifts_and_turns_move_boxes_out_of_the_image():
    boxes = _boxes(xyxy=[[20.0, 2.0, 28.0, 22.0]])
    lost = RandomMotion(Shift(fill="zeros"), generator=_seeded(1))
    shift = Shift().draw(1, SIZE, generator=_seeded(1))["shift"][0]
    expected = torch.tensor(BOXES[1]) + shift.flip(0).repeat(2)
    _, moved = lost(_image(), boxes)
    assert torch.equal(moved.as_subclass(torch.Tensor), expected[None])
    _, turned = RandomMotion(Turn((45.0, 45.0)))(_image(), boxes)
    assert (turned < 0).any()
    clamped = TF.clamp_bounding_boxes(turned)
    assert (clamped >= 0).all()


@pytest.mark.parametrize("name", ["shifts", "turns", "both"])
def test_undo_and_redo_take_them(name):
    restore = RestoreTransform(RESTORERS[name])
    image, points = _image(SQUARE), KeyPoints([[12.0, 11.0], [14.0, 13.0]], canvas_size=SQUARE)
    boxes = _boxes(ROTATED[0], size=SQUARE, xyxy=[[10.0, 10.0, 14.0, 16.0]])
    found = restore.find(image)
    restored = restore(image, boxes, points)
    assert_close(restore.undo(points, found), restored[2], rtol=0, atol=0)
    assert_close(restore.undo(boxes, found), restored[1], rtol=0, atol=0)
    back = restore.redo(restored[2], found)
    assert type(back) is KeyPoints
    assert_close(back, points, rtol=0, atol=1e-4)
    assert_close(_corners(restore.redo(restored[1], found)), _corners(boxes), rtol=0, atol=1e-4)


def test_images_that_are_left_as_they_are_keep_their_boxes():
    gated = RestoreTransform(RESTORERS["shifts"], min_margin=1e6)
    beyond = _boxes(size=SQUARE, xyxy=[[20.0, -4.0, 40.0, 9.0], [-9.0, 30.0, -1.0, 50.0]])
    assert torch.equal(gated(_image(SQUARE), beyond)[1], beyond)


def _not_square_restorer():
    torch.manual_seed(0)
    return RestoreTransform(CopiesEstimator(3, scorer_options={"channels": [4]}))


def test_samples_that_are_not_square_are_put_upright_to_the_same_bits():
    restore, image = _not_square_restorer(), _image()
    mask = tv_tensors.Mask(image.as_subclass(torch.Tensor)[0] > 100)
    points = KeyPoints([[3, 5], [29, 0]], canvas_size=SIZE)
    sample = (image, _boxes(dtype=torch.int64), points, mask)
    restored = []
    for quarters in range(4):
        moved = [TF.rotate(each, 90 * quarters, expand=True) for each in sample]
        moved[2] = RandomMotion(_Quarters(number=quarters))(image, points)[1]  # exact
        restored.append(restore(*moved))
        found = restore.find(moved[0])
        for each in moved:
            back = restore.redo(restore.undo(each, found), found)
            assert torch.equal(back, each)
            assert getattr(back, "canvas_size", SIZE) == getattr(each, "canvas_size", SIZE)
    for each in restored[1:]:
        assert_close(each, restored[0], rtol=0, atol=0)
    assert restored[0][1].canvas_size == restored[0][0].shape[1:]


@dataclass(frozen=True)
class _Quarters(QuarterTurn):
    """A turn by a given number of quarters."""

    number: int = 0

    def draw(self, batch_size, spatial_size, *, generator=None):
        return {"quarters": torch.full((batch_size,), self.number)}


@pytest.mark.parametrize("motion", [Shift(), Turn(), QuarterTurn(mirrors=True)], ids=str)
@pytest.mark.parametrize("layout", [*UPRIGHT, "XYWHR", "CXCYWHR"])
def test_boxes_without_an_area_stay_so(layout, motion):
    image = _image(SQUARE)
    valid = _boxes(layout, size=SQUARE, xyxy=[[9.0, 9.0, 14.0, 12.0]])
    boxes = valid.repeat(4, 1)
    if layout == "XYXY":
        boxes = torch.tensor([[2.0, 0, 1, 1], [0, 2, 1, 1], [3, 3, 1, 1], [5, 2, 5, 9]])
    else:
        boxes[0, 2] *= -1
        boxes[1, 3] *= -1
        boxes[2, 2:4] *= -1
        boxes[3, 2] = 0
    plain = torch.cat([boxes.as_subclass(torch.Tensor), valid.as_subclass(torch.Tensor)])
    boxes = BoundingBoxes(plain, format=layout, canvas_size=SQUARE)
    for seed in range(8):
        moved = RandomMotion(motion, generator=_seeded(seed))(image, boxes)[1]
        moved = moved.as_subclass(torch.Tensor)
        size = moved[:, 2:4] - moved[:, :2] if layout == "XYXY" else moved[:, 2:4]
        assert (size > 0).all(1).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("layout", UPRIGHT + ROTATED)
def test_samples_without_any_box(layout):
    columns = {"XYWHR": 5, "CXCYWHR": 5, "XYXYXYXY": 8}.get(layout, 4)
    boxes = BoundingBoxes(torch.zeros(0, columns), format=layout, canvas_size=SIZE)
    for motion in (Shift(), Turn()):
        _, moved = RandomMotion(motion)(_image(), boxes)
        assert moved.shape == (0, columns)
        assert moved.format == boxes.format


def test_other_sizes_and_volumes_are_refused():
    message = "Expected BoundingBoxes of the image's size (24, 30), but got (25, 25)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RandomMotion(Shift())(_image(), _boxes(size=SQUARE))
    points = KeyPoints([[1, 2]], canvas_size=SQUARE)
    message = "Expected KeyPoints of the image's size (24, 30), but got (25, 25)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RandomMotion(Shift())(_image(), points)
    volumes = RandomMotion(Shift((-3, -2, -1)), num_spatial_dims=3)
    message = "Expected KeyPoints of the image's size (4, 25, 25), but got (25, 25)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        volumes(torch.zeros(1, 4, 25, 25), points)


def test_gradients_reach_boxes():
    boxes = torch.tensor(BOXES, requires_grad=True)
    wrapped = BoundingBoxes(boxes, format="CXCYWH", canvas_size=SIZE)
    _, moved = RandomMotion(Turn())(_image(), wrapped)
    moved.as_subclass(torch.Tensor).sum().backward()
    assert boxes.grad.shape == boxes.shape
    assert (boxes.grad != 0).any()
