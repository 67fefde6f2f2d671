"""Points go where what lies at them goes; checked against torchvision, torch.roll and by hand."""

import cmath
import math

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as TF
from torchvision.tv_tensors import BoundingBoxFormat

from eqrestore_lightning.functional._points import (
    mirror_points,
    quarter_turn_points,
    rotate_points,
    shift_points,
)


def _points(batch, things, corners, size, dtype=torch.float64):
    return (torch.rand(batch, things, corners, len(size)) * torch.tensor(size)).to(dtype)


def test_things_stay_whole_and_keep_their_center_in_the_image():
    corners = _points(50, 4, 4, (12, 17))
    shift = torch.randint(-60, 60, (50, 2))
    moved = shift_points(corners, shift, (12, 17))
    assert_close(moved - moved[:, :, :1], corners - corners[:, :, :1])
    center = moved.mean(2)
    inside = (center >= 0) & (center < torch.tensor([12, 17]))
    assert inside[(shift != 0).unsqueeze(1).expand_as(inside)].all()
    assert ((moved < 0) | (moved > torch.tensor([12, 17]))).any()  # some wrap around
    torn = shift_points(corners.flatten(1, 2).unsqueeze(2), shift, (12, 17)).reshape(corners.shape)
    assert not torch.allclose(torn, moved)  # the negative control: points by themselves


def test_axes_without_a_shift_stay_as_they_are():
    outside = torch.tensor([[[[40.0, -3.0]]]])
    assert torch.equal(shift_points(outside, torch.tensor([[0, 0]]), (32, 32)), outside)
    moved = shift_points(outside, torch.tensor([[0, 5]]), (32, 32))
    assert moved.flatten().tolist() == [40, 2]
    moved = shift_points(outside, torch.tensor([[5, 0]]), (32, 32))
    assert moved.flatten().tolist() == [13, -3]
    assert shift_points(
        outside, torch.tensor([[5, -30]]), (32, 32), circular=False
    ).tolist() == [[[[45, -33]]]]  # fmt: skip


@pytest.mark.parametrize("size", [(7, 7), (6, 9)])
def test_points_turn_as_complex_numbers_do(size):
    points = _points(6, 5, 1, size)
    angle = torch.tensor([0.0, 90.0, 33.0, -117.5, 360.0, 270.0], dtype=torch.float64)
    turned = rotate_points(points, angle, size)
    for image in range(6):
        for (down, right), moved in zip(points[image, :, 0], turned[image, :, 0], strict=True):
            place = complex(right - size[1] / 2, -(down - size[0] / 2))  # up is positive
            place *= cmath.exp(1j * math.radians(angle[image]))
            expected = torch.tensor([size[0] / 2 - place.imag, size[1] / 2 + place.real])
            assert_close(moved, expected.double())


def test_quarter_turns_and_mirror_images_are_exact():
    points = _points(8, 5, 3, (9, 9), torch.float32)
    quarters, mirrored = torch.arange(8) - 2, torch.arange(8) % 3
    turned = quarter_turn_points(points, quarters, (9, 9))
    assert_close(turned, rotate_points(points, quarters * 90.0, (9, 9)), rtol=0, atol=1e-5)
    back = quarter_turn_points(turned, -quarters, (9, 9))
    assert torch.equal(quarter_turn_points(points, 4 + quarters, (9, 9)), turned)
    assert_close(back, points, rtol=0, atol=1e-6)
    corner = torch.tensor([[[[0.0, 2.0]]]])
    places = [quarter_turn_points(corner, torch.tensor([q]), (9, 9)).tolist() for q in range(4)]
    assert [place[0][0][0] for place in places] == [[0, 2], [7, 0], [9, 7], [2, 9]]
    flipped = mirror_points(points, mirrored, (9, 9))
    assert torch.equal(flipped[mirrored != 1], points[mirrored != 1])
    assert torch.equal(flipped[mirrored == 1][..., 1], 9 - points[mirrored == 1][..., 1])
    assert torch.equal(flipped[..., 0], points[..., 0])


def test_a_mirrored_box_lies_where_torchvision_puts_it():
    box = torch.tensor([[1.0, 2.0, 5.0, 7.0]])  # left, top, right, bottom
    corners = box.reshape(1, 1, 2, 2).flip(-1)
    flipped = mirror_points(corners, torch.tensor([1]), (11, 8)).flip(-1).reshape(1, 4)
    expected = TF.horizontal_flip_bounding_boxes(box, BoundingBoxFormat.XYXY, (11, 8))
    assert flipped[0, [2, 1, 0, 3]].tolist() == expected[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_empty_ones_pass_and_the_input_is_untouched(dtype):
    for things in (0, 3):
        points = _points(2, things, 4, (6, 6), dtype)
        before = points.clone()
        for moved in (
            shift_points(points, torch.tensor([[2, -9], [0, 1]]), (6, 6)),
            rotate_points(points, torch.tensor([10.0, 20.0]), (6, 6)),
            quarter_turn_points(points, torch.tensor([1, 2]), (6, 6)),
            mirror_points(points, torch.tensor([0, 1]), (6, 6)),
        ):
            assert moved.dtype == dtype
            assert moved.shape == points.shape
        assert torch.equal(points, before)
