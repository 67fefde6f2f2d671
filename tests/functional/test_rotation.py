import re

import kornia
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch.testing import assert_close

from eqrestore_lightning.functional import rotate, to_polar
from eqrestore_lightning.functional._rotation import mass_offset, mirror, quarter_turn

SIZES = [(8, 8), (9, 9), (8, 11), (12, 7)]


def _blob(height, width, row, column):
    """A smooth bump: what interpolation does to it is small."""
    rows = torch.arange(height, dtype=torch.float64)[:, None] - row
    columns = torch.arange(width, dtype=torch.float64) - column
    return torch.exp(-(rows**2 + columns**2) / 24)[None, None]


@pytest.mark.parametrize("size", SIZES)
def test_polar_images_are_read_where_they_say(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    polar = to_polar(x, num_radii=3, num_angles=8)
    assert polar.shape == (2, 3, 3, 8)
    center = [(n - 1) / 2 for n in size]
    for i in range(3):
        for j in range(8):
            radius = (min(size) - 1) / 2 * (i + 0.5) / 3
            angle_rad = torch.tensor(2 * torch.pi * j / 8, dtype=torch.float64)
            row = center[0] - radius * torch.sin(angle_rad)
            column = center[1] + radius * torch.cos(angle_rad)
            for b in range(2):
                for c in range(3):
                    (expected,) = ndimage.map_coordinates(x[b, c], [[row], [column]], order=1)
                    assert_close(polar[b, c, i, j].item(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (33, 40), (41, 36)])
@pytest.mark.parametrize("steps", [1, 7, 30, -11])
def test_turning_counter_clockwise_rolls_the_angles_forward(size, steps):
    x = _blob(*size, size[0] / 2 - 7, size[1] / 2 + 3)
    polar = to_polar(x, num_radii=12, num_angles=72)
    angle = torch.full((1,), steps * 5.0, dtype=torch.float64)
    turned = to_polar(rotate(x, angle), num_radii=12, num_angles=72)
    error = (turned - polar.roll(steps, 3)).abs().max()
    assert error < 0.03
    assert (turned - polar.roll(-steps, 3)).abs().max() > 5 * error  # not the other way


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turns_roll_polar_images_bit_for_bit(size, dtype):
    x = torch.rand(5, 2, size, size).to(dtype)
    polar = to_polar(x, num_radii=4, num_angles=20)
    assert polar.dtype == dtype
    for quarters in range(4):
        turned = to_polar(torch.rot90(x, quarters, (2, 3)), num_radii=4, num_angles=20)
        assert torch.equal(turned, polar.roll(5 * quarters, 3))


def test_the_seam_is_like_any_other_place():
    x = _blob(33, 33, 16, 25)  # straight to the right, at 0°
    polar = to_polar(x, num_radii=16, num_angles=72)[0, 0]
    assert polar.argmax() % 72 == 0
    assert_close(polar[:, 1:36], polar[:, 37:].flip(1), rtol=0, atol=1e-9)  # above as below


def test_max_radius_says_how_far_circles_reach():
    x = torch.ones(1, 1, 9, 9)
    assert torch.equal(to_polar(x, num_radii=5, num_angles=4), torch.ones(1, 1, 5, 4))
    outside = to_polar(x, num_radii=2, num_angles=4, max_radius=40.0)
    assert outside[0, 0, 1].count_nonzero() == 0
    center = to_polar(
        torch.arange(9.0).reshape(1, 1, 3, 3), num_radii=1, num_angles=3, max_radius=0
    )
    assert_close(center, torch.full((1, 1, 1, 3), 4.0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fill", ["zeros", "border", "reflection"])
def test_rotate_equals_kornia_and_torch(size, fill):
    x = torch.rand(6, 2, *size, dtype=torch.float64)
    angle = torch.tensor([3.0, -44.0, 100.0, 179.0, -250.0, 725.0], dtype=torch.float64)
    turned = rotate(x, angle, fill=fill)
    expected = kornia.geometry.rotate(x, angle, padding_mode=fill, align_corners=True)
    assert_close(turned, expected, rtol=0, atol=1e-5)  # kornia 0.8 knows only 7 digits of π
    sin, cos, zero = torch.deg2rad(angle).sin(), torch.deg2rad(angle).cos(), torch.zeros(6)
    ratio = (size[0] - 1) / (size[1] - 1)
    theta = torch.stack([cos, -sin * ratio, zero, sin / ratio, cos, zero], 1).unflatten(1, (2, 3))
    grid = F.affine_grid(theta, list(x.shape), align_corners=True)
    expected = F.grid_sample(x, grid, padding_mode=fill, align_corners=True)
    assert_close(turned, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.int64, torch.bool, torch.float16, torch.float32]
)
def test_multiples_of_a_quarter_turn_are_exact(dtype):
    x = (100 * torch.rand(5, 2, 7, 7)).to(dtype)
    before = x.clone()
    angle = torch.tensor([0.0, 90.0, 180.0, -90.0, 450.0])
    turned = rotate(x, angle)
    assert turned.dtype == dtype
    for one, result, quarters in zip(x, turned, (0, 1, 2, 3, 1), strict=True):
        assert torch.equal(result, torch.rot90(one, quarters, (1, 2)))
    assert torch.equal(x, before)


def test_the_same_rest_is_interpolated_alike_in_every_quadrant():
    x = torch.rand(1, 1, 8, 8)
    for rest in (17.0, 45.0, -30.0):
        reference = rotate(x, torch.tensor([rest]))
        for quarters in range(4):
            turned = rotate(torch.rot90(x, -quarters, (2, 3)), torch.tensor([rest + 90 * quarters]))
            assert torch.equal(turned, reference)


def test_images_that_are_not_square_keep_their_size():
    x = torch.rand(3, 1, 6, 9)
    assert torch.equal(rotate(x, torch.tensor([0.0, 360.0, -720.0])), x)
    half = rotate(x, torch.full((3,), 180.0))
    assert_close(half, x.flip((2, 3)), rtol=0, atol=1e-5)


def test_integers_are_rounded_and_labels_are_not_mixed():
    x = torch.tensor([[[[0, 200], [200, 0]]]], dtype=torch.uint8)
    angle = torch.tensor([20.0])
    expected = rotate(x.double(), angle.double()).round().to(torch.uint8)
    assert torch.equal(rotate(x, angle), expected)
    assert set(expected.unique().tolist()) == {35, 137}
    labels = rotate(x, angle, interpolation="nearest")
    assert set(labels.unique().tolist()) <= {0, 200}


def test_fill_says_what_enters_at_the_corners():
    x = torch.ones(1, 1, 9, 9)
    angle = torch.tensor([45.0])
    assert rotate(x, angle)[0, 0, 0, 0] == 0
    assert rotate(x, angle, fill="border")[0, 0, 0, 0] == 1
    assert rotate(x, angle, fill="reflection")[0, 0, 0, 0] == 1


def test_gradients():
    x = torch.rand(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    square = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    angle = torch.tensor([13.7, -101.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotate, (x, angle))
    assert torch.autograd.gradcheck(rotate, (square, angle))
    for images in (x, square):
        assert torch.autograd.gradcheck(lambda y: to_polar(y, num_radii=2, num_angles=8), (images,))


def test_empty_batches():
    assert rotate(torch.zeros(0, 1, 4, 5), torch.zeros(0)).shape == (0, 1, 4, 5)
    assert to_polar(torch.zeros(0, 2, 4, 4), num_radii=3, num_angles=8).shape == (0, 2, 3, 8)
    quarters = torch.zeros(0, dtype=torch.int64)
    assert quarter_turn(torch.zeros(0, 1, 4, 4), quarters).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.complex64])
def test_quarter_turn_equals_rot90_of_each_image(dtype):
    x = torch.randint(0, 100, (6, 2, 5, 5)).to(dtype)
    quarters = torch.tensor([0, 1, 2, 3, -1, 9])
    turned = quarter_turn(x, quarters)
    assert turned.dtype == dtype
    for one, result, number in zip(x, turned, quarters.tolist(), strict=True):
        assert torch.equal(result, torch.rot90(one, number, (1, 2)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 5, 5)}, ValueError, "Expected `x` to have shape (batch, channels, "
         "height, width) with at least one pixel, but got (2, 5, 5)."),
        ({"x": torch.zeros(2, 1, 0, 5)}, ValueError, "with at least one pixel, but got (2, 1, 0,"),
        ({"x": torch.zeros(2, 1, 5, 5).long()}, TypeError, "Expected `x` to be floating, but got "
         "torch.int64."),
        ({"num_radii": 0}, ValueError, "Expected `num_radii` to be at least 1, but got 0."),
        ({"num_angles": 0}, ValueError, "Expected `num_angles` to be at least 1, but got 0."),
        ({"max_radius": -1.0}, ValueError, "Expected `max_radius` to be finite and at least 0, but "
         "got -1.0."),
        ({"max_radius": float("nan")}, ValueError, "and at least 0, but got nan."),
    ],
)  # fmt: skip
def test_to_polar_rejections(change, error, message):
    arguments = {"x": torch.zeros(2, 1, 5, 5), "num_radii": 1, "num_angles": 1, "max_radius": 0.0}
    to_polar(arguments.pop("x"), **arguments)
    arguments = {"x": torch.zeros(2, 1, 5, 5), **arguments, **change}
    with pytest.raises(error, match=re.escape(message)):
        to_polar(arguments.pop("x"), **arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 5, 5)}, ValueError, "Expected `x` to have shape (batch, channels, "),
        ({"x": torch.zeros(2, 1, 5, 5, dtype=torch.complex64)}, TypeError, "Expected `x` to be "
         "real, but got torch.complex64."),
        ({"angle": torch.zeros(2).long()}, TypeError, "Expected `angle` to be floating, but got "
         "torch.int64."),
        ({"angle": torch.zeros(3)}, ValueError, "Expected `angle` to have shape (batch,) = (2,), "
         "but got (3,)."),
        ({"angle": torch.zeros(2, 1)}, ValueError, "(batch,) = (2,), but got (2, 1)."),
        ({"fill": "mirror"}, ValueError, "Expected `fill` to be one of ('zeros', 'border', "
         "'reflection'), but got 'mirror'."),
        ({"interpolation": "cubic"}, ValueError, "Expected `interpolation` to be one of "
         "('bilinear', 'nearest'), but got 'cubic'."),
    ],
)  # fmt: skip
def test_rotate_rejections(change, error, message):
    arguments = {"x": torch.zeros(2, 1, 5, 5), "angle": torch.zeros(2)}
    rotate(**arguments)
    with pytest.raises(error, match=re.escape(message)):
        rotate(**{**arguments, **change})


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.complex64])
def test_mirror_flips_left_and_right_or_not(dtype):
    x = torch.randint(0, 100, (5, 2, 4, 7)).to(dtype)
    mirrored = mirror(x, torch.tensor([0, 1, 2, -1, 3]))
    assert mirrored.dtype == dtype
    assert torch.equal(mirrored[[0, 2]], x[[0, 2]])
    assert torch.equal(mirrored[[1, 3, 4]], x[[1, 3, 4]].flip(3))
    assert mirror(x[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 2, 4, 7)


def test_mirror_rejections():
    x, one = torch.zeros(2, 1, 5, 4), torch.ones(2, dtype=torch.int64)
    mirror(x, one)
    message = "Expected `mirrored` to have dtype torch.int64, but got torch.bool."
    with pytest.raises(TypeError, match=re.escape(message)):
        mirror(x, one.bool())
    message = "Expected `mirrored` to have shape (batch,) = (2,), but got (2, 1)."
    with pytest.raises(ValueError, match=re.escape(message)):
        mirror(x, one[:, None])
    with pytest.raises(ValueError, match=re.escape("at least one pixel, but got (1, 5, 4).")):
        mirror(x[0], one)


def test_quarter_turn_rejections():
    x, quarters = torch.zeros(2, 1, 5, 5), torch.zeros(2, dtype=torch.int64)
    quarter_turn(x, quarters)
    with pytest.raises(ValueError, match="but got images of 5 × 4 pixels and quarters of both kin"):
        quarter_turn(x[..., :4], torch.tensor([0, 1]))
    with pytest.raises(TypeError, match=r"Expected `quarters` to have dtype torch\.int64, but got"):
        quarter_turn(x, quarters.float())
    with pytest.raises(
        ValueError, match=re.escape("`quarters` to have shape (batch,) = (2,), but")
    ):
        quarter_turn(x, quarters[:1])


@pytest.mark.parametrize("size", [(9, 9), (8, 8), (7, 10)])
def test_the_center_of_mass_is_that_of_brightness_above_the_darkest_pixel(size):
    x = torch.rand(4, 2, *size, dtype=torch.float64)
    mass = (x - x.amin((1, 2, 3), keepdim=True)).sum(1)
    down, right = torch.meshgrid(*(torch.arange(s).double() for s in size), indexing="ij")
    expected = torch.stack([(mass * place).sum((1, 2)) for place in (down, right)], 1)
    expected = expected / mass.sum((1, 2)).unsqueeze(1)
    middle = torch.tensor([(s - 1) / 2 for s in size])
    assert_close(mass_offset(x), expected - middle)
    assert_close(mass_offset(3 * x + 1), mass_offset(x))
    assert mass_offset(torch.full((1, 1, *size), 7.0)).tolist() == [[0, 0]]


def test_an_offset_moves_the_circles():
    x = torch.rand(3, 2, 20, 20)
    offset = torch.tensor([[2.0, -1.0], [0.0, 3.0], [-2.0, 0.0]])
    moved = torch.stack(
        [each.roll((-int(d), -int(r)), (1, 2)) for each, (d, r) in zip(x, offset, strict=True)]
    )
    options = {"num_radii": 5, "num_angles": 12, "max_radius": 6.0}
    assert_close(to_polar(x, offset=offset, **options), to_polar(moved, **options))
    flat = x[..., :16]  # not square: read in one part
    moved = torch.stack(
        [each.roll((-int(d), -int(r)), (1, 2)) for each, (d, r) in zip(flat, offset, strict=True)]
    )
    options["max_radius"] = 4.0
    assert_close(to_polar(flat, offset=offset, **options), to_polar(moved, **options))


def test_an_offset_of_another_shape_is_rejected():
    message = (
        "Expected `offset` to be floating of shape (batch, 2) = (3, 2), "
        "but got torch.float32 of shape (2,)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        to_polar(torch.rand(3, 1, 8, 8), num_radii=2, num_angles=4, offset=torch.zeros(2))
