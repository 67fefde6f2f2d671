import itertools
import math
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.data._photographs import find_photographs
from eqrestore_lightning.functional import circular_shift, find_between, rotate, to_polar

SIZES = [(7,), (8,), (1,), (2,), (9, 6), (8, 8), (1, 5), (5, 4, 7)]


def _shifts(batch, size):
    return torch.stack([torch.randint(0, n, (batch,)) for n in size], 1)


def _shift_between_pixels(x, shift):
    """Multiply the spectrum by phases: exact where the highest frequency of even sizes is 0."""
    dims = tuple(range(2, x.ndim))
    spectrum = torch.fft.fftn(x, dim=dims)
    for axis, n in enumerate(x.shape[2:]):
        turns = torch.fft.fftfreq(n, dtype=x.dtype) * shift[:, axis, None]
        phase = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
        spectrum = spectrum * phase.reshape(len(x), 1, *[1] * axis, n, *[1] * (x.ndim - 3 - axis))
    return torch.fft.ifftn(spectrum, dim=dims).real


def _distance(found, shift, size):
    size = torch.tensor(size)
    return ((found - shift + size / 2) % size - size / 2).abs()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("normalization", [None, "phase"])
def test_shifts_of_whole_pixels_are_found(size, normalization):
    a = torch.rand(6, 2, *size)
    shift = _shifts(6, size)
    found, margin = find_between(a, circular_shift(a, shift), normalization=normalization)
    if size == (1,):
        shift, margin = torch.zeros_like(shift), margin + 1  # there is nothing to find
    assert _distance(found, shift, size).max() < 1e-4
    assert (margin > 0).all()
    assert (margin <= 2 if size == (1,) else margin <= 1 + 1e-5).all()


@pytest.mark.parametrize("size", [(7,), (5, 6), (3, 4, 5)])
def test_the_best_pixel_is_that_of_the_correlation_written_out(size):
    a, b = (torch.rand(8, 2, *size, dtype=torch.float64) for _ in range(2))
    found, _ = find_between(a, b)
    places = list(itertools.product(*map(range, size)))
    dims = tuple(range(1, 1 + len(size)))
    for one, other, shift in zip(a, b, found, strict=True):
        scores = torch.stack([(one.roll(place, dims) * other).sum() for place in places])
        best = torch.tensor(places[int(scores.argmax())])
        assert _distance(shift, best, size).max() < 2  # the maximum between pixels lies close by


def test_positive_shifts_are_down_and_right():
    a = torch.zeros(1, 1, 5, 8)
    a[..., 1:3, 2:4] = torch.tensor([[1.0, 3.0], [2.0, 5.0]])
    b = a.roll((1, 3), (2, 3))
    assert find_between(a, b).shift.round().tolist() == [[1, 3]]
    assert find_between(b, a).shift.round().tolist() == [[-1, -3]]


def test_axes_are_chosen_and_ordered():
    a = torch.rand(4, 2, 6, 9, dtype=torch.float64)
    b = a.roll((2, -4), (2, 3))
    expected = torch.tensor([[2.0, -4.0]], dtype=torch.float64).expand(4, 2)
    assert_close(find_between(a, b, axes=(-1, -2)).shift, expected.flip(1))
    along_rows = find_between(a, a.roll(-4, 3), axes=(-1,))
    assert_close(along_rows.shift, expected[:, 1:])
    volumes = torch.rand(2, 1, 4, 5, 6, dtype=torch.float64)
    found = find_between(volumes, volumes.roll((1, -2), (2, 4)), axes=(-3, -1)).shift
    assert_close(found, torch.tensor([[1.0, -2.0]], dtype=torch.float64).expand(2, 2))


@pytest.mark.parametrize("size", [(31,), (32,), (21, 32), (9, 12, 11)])
@pytest.mark.parametrize("normalization", [None, "phase"])
def test_fractions_of_a_pixel_are_exact_without_noise(size, normalization):
    a = torch.rand(6, 1, *size, dtype=torch.float64)
    for axis, n in enumerate(size, start=2):  # without the highest frequency of even sizes
        if n % 2 == 0:
            a = (a + a.roll(1, axis)) / 2
    shift = (torch.rand(6, len(size), dtype=torch.float64) - 0.5) * torch.tensor(size)
    found, _ = find_between(a, _shift_between_pixels(a, shift), normalization=normalization)
    assert _distance(found, shift, size).max() < 1e-6


@pytest.mark.parametrize("normalization", [None, "phase"])
def test_noise_and_occlusion_cost_little(normalization):
    a = torch.rand(40, 1, 64, 64)
    shift = (torch.rand(40, 2) - 0.5) * 64
    b = _shift_between_pixels(a, shift) + 0.1 * torch.randn(a.shape)
    b[..., 10:30, 20:40] = 0.5
    found, margin = find_between(a, b, normalization=normalization)
    assert _distance(found, shift, (64, 64)).mean() < 0.05
    assert margin.min() > 0.1


def test_the_margin_tells_pairs_from_strangers():
    a = torch.rand(20, 1, 32, 32)
    pairs = find_between(a, a.roll((3, 4), (2, 3)) + 0.1 * torch.randn(a.shape)).margin
    strangers = find_between(a, torch.rand(20, 1, 32, 32)).margin
    assert strangers.max() < 0.1 < 0.3 < pairs.min()
    striped = torch.rand(1, 1, 8, 8).repeat(1, 1, 2, 1)  # moves to itself after 8 rows
    assert find_between(striped, striped.roll(3, 2)).margin < 1e-5
    assert find_between(a, a).margin.min() > 0.5


def test_contrast_and_brightness_do_not_matter():
    a = torch.rand(3, 2, 9, 8, dtype=torch.float64)
    b = a.roll((2, -3), (2, 3)) + 0.2 * torch.rand(a.shape, dtype=torch.float64)
    for normalization in (None, "phase"):
        expected = find_between(a, b, normalization=normalization)
        found = find_between(a * 40 - 7, b * 0.01 + 300, normalization=normalization)
        assert_close(found.shift, expected.shift, rtol=0, atol=1e-6)
        assert_close(found.margin, expected.margin, rtol=0, atol=1e-6)


def test_turns_are_shifts_of_polar_images():
    y, x = torch.meshgrid(torch.linspace(-2, 2, 41), torch.linspace(-2, 2, 41), indexing="ij")
    image = (-((x - 0.8) ** 2) - 3 * (y - 0.3) ** 2).exp() + (-4 * (x + 1) ** 2 - y**2).exp() / 2
    images = image.expand(3, 1, 41, 41)
    angle = torch.tensor([10.0, -77.3, 140.0])
    polar = [
        to_polar(each, num_radii=16, num_angles=120) for each in (images, rotate(images, angle))
    ]
    found = find_between(*polar, axes=(-1,)).shift[:, 0] * 360 / 120
    assert_close(found, angle, rtol=0, atol=0.3)


def test_one_image_serves_a_batch():
    a = torch.rand(1, 2, 7, 6)
    b = circular_shift(a.expand(5, 2, 7, 6), _shifts(5, (7, 6)))
    for normalization in (None, "phase"):
        one = find_between(a, b, normalization=normalization)
        each = find_between(a.expand_as(b), b, normalization=normalization)
        assert_close(one.shift, each.shift)
        assert_close(one.margin, each.margin)


def test_dtypes():
    a = torch.randint(0, 2, (3, 1, 9, 8))
    expected = find_between(a.double(), a.double().roll(2, 3))
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16):
        found = find_between(a.to(dtype), a.to(dtype).roll(2, 3))
        assert found.shift.dtype == found.margin.dtype == torch.float32
        assert_close(found.shift, expected.shift.float(), rtol=0, atol=1e-4)
    assert expected.shift.dtype == torch.float64
    assert find_between(a, a.double()).margin.dtype == torch.float64


def test_nothing_to_find_is_a_shift_of_0_without_margin():
    a = torch.rand(4, 1, 6, 6)
    b = a.roll(2, 3)
    b[0] = 7.0
    b[1, 0, 2, 2] = math.nan
    b[2, 0, 2, 2] = math.inf
    before = b.clone()
    for normalization in (None, "phase"):
        found, margin = find_between(a, b, normalization=normalization)
        assert found[:3].tolist() == [[0, 0]] * 3
        assert margin[:3].tolist() == [0] * 3
        assert found[3].round().tolist() == [0, 2]
    assert torch.equal(b.nan_to_num(1e9), before.nan_to_num(1e9))


def test_empty_batch():
    for dtype, expected in ((torch.uint8, torch.float32), (torch.float64, torch.float64)):
        x = torch.zeros(0, 3, 5, 4, dtype=dtype)
        found, margin = find_between(x, x, axes=(-1,))
        assert found.shape == (0, 1)
        assert margin.shape == (0,)
        assert found.dtype == margin.dtype == expected


def test_what_does_not_belong_together_is_refused():
    x = torch.rand(2, 1, 4, 5)
    for other in (torch.rand(2, 1, 5, 4), torch.rand(3, 1, 4, 5), torch.rand(2, 2, 4, 5)):
        message = (
            f"Expected `a` to have the shape of `b`, (2, 1, 4, 5), or one image of it, "
            f"but got {tuple(other.shape)}."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            find_between(other, x)
    for shape in ((2, 4), (2, 1, 2, 3, 4, 5), (2, 1, 0, 4), (2, 0, 4, 4)):
        message = f"at least one entry, but got {shape}."
        with pytest.raises(ValueError, match=re.escape(message)):
            find_between(torch.zeros(shape), torch.zeros(shape))
    for axes in ((), (1,), (-3,), (-1, -1)):
        message = f"Expected `axes` to be distinct and from (-2, -1), but got {axes}."
        with pytest.raises(ValueError, match=re.escape(message)):
            find_between(x, x, axes=axes)
    message = "Expected `normalization` to be None or 'phase', but got 'cosine'."
    with pytest.raises(ValueError, match=re.escape(message)):
        find_between(x, x, normalization="cosine")
    with pytest.raises(TypeError, match=r"Expected `a` to be real, but got torch\.complex64\."):
        find_between(x.to(torch.complex64), x)
    with pytest.raises(TypeError, match=r"Expected `b` to be real, but got torch\.complex64\."):
        find_between(x, x.to(torch.complex64))


def test_places_beside_the_best_one_are_no_rivals():
    a = torch.zeros(1, 1, 1, 32)
    a[..., 3] = 1.0
    margins = [
        float(find_between(a, a + 0.9 * a.roll(offset, 3), axes=(-1,)).margin)
        for offset in (1, 2, 3)  # where the correlation has a second peak
    ]
    assert margins[0] > 0.5
    assert max(margins[1:]) < 0.3


@pytest.mark.parametrize("normalization", [None, "phase"])
def test_margins_tell_wrapped_photographs_from_crops_and_strangers(normalization):
    first, second = (torch.stack(parts).float() for parts in zip(*_crops(), strict=True))
    shift = _shifts(len(first), (128, 128))
    found, wrapped = find_between(first, circular_shift(first, shift), normalization=normalization)
    assert _distance(found, shift, (128, 128)).max() < 0.01
    assert wrapped.min() > 0.9
    found, overlapping = find_between(first, second, normalization=normalization)
    right = _distance(found, torch.tensor([-9, 12]).expand(len(found), 2), (128, 128)).amax(1) < 1.5
    assert right.double().mean() > 0.6
    assert right[overlapping > 0.1].double().mean() > 0.9
    assert not right.all()
    _, strangers = find_between(first, first.roll(7, 0), normalization=normalization)
    assert strangers.quantile(0.9) < 0.25 < overlapping.median()


@pytest.mark.parametrize("normalization", [None, "phase"])
def test_crops_that_do_not_wrap_are_hardly_ever_wrong_with_a_margin_but_at_no_shift(normalization):
    first, second, shifts = [], [], []
    for path in find_photographs().values():
        image = read_image(path, grayscale=True)
        for _ in range(30):
            offset = torch.randint(-30, 31, (2,))
            free = torch.tensor(image.shape[1:]) - 128 - 60
            corner = 30 + (torch.rand(2) * free).long()
            a, b = (
                image[:, y : y + 128, x : x + 128] / 255
                for y, x in (corner.tolist(), (corner + offset).tolist())
            )
            if min(a.std(), b.std()) > 10 / 255:
                first.append(a)
                second.append(b)
                shifts.append(-offset)
    pairs = torch.stack(first), torch.stack(second)
    found, margin = find_between(*pairs, normalization=normalization)
    wrong = _distance(found, torch.stack(shifts), (128, 128)).amax(1) > 1.5
    assert 0 < wrong.double().mean() < 0.3
    believed = margin > 0.05
    assert believed[~wrong].double().mean() > 0.9
    assert (wrong & believed & (found.abs().amax(1) > 2)).double().mean() < 0.01
    assert (wrong & believed).double().mean() < 0.05


@pytest.mark.parametrize("size", [(24, 35), (64, 64), (7,)])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.0])
def test_uniform_images_hold_no_shift_whatever_their_rounding(size, value):
    uniform = torch.full((2, 1, *size), value)
    for normalization in (None, "phase"):
        shift, margin = find_between(torch.rand(2, 1, *size), uniform, normalization=normalization)
        assert shift.count_nonzero() == margin.count_nonzero() == 0


def test_an_answer_does_not_depend_on_the_rest_of_the_batch():
    a = torch.rand(5, 1, 16, 15)
    b = _shift_between_pixels(a, torch.rand(5, 2) * 9) + 0.2 * torch.rand(a.shape)
    b[1] = torch.rand(1, 16, 15)  # a stranger, for which Newton's method takes longer
    together = find_between(a, b)
    for i in range(5):
        alone = find_between(a[i : i + 1], b[i : i + 1])
        assert_close(alone.shift[0], together.shift[i], rtol=0, atol=1e-4)
        assert_close(alone.margin[0], together.margin[i], rtol=0, atol=1e-5)


def _crops():
    """Yield pairs of 128 × 128 from photographs, the second one 9 pixels down and 12 left."""
    for path in find_photographs().values():
        image = read_image(path, grayscale=True)
        for top, left in itertools.product(*(range(20, n - 148, 80) for n in image.shape[1:])):
            a = image[:, top : top + 128, left : left + 128]
            b = image[:, top + 9 : top + 137, left - 12 : left + 116]
            if min(a.float().std(), b.float().std()) > 10:
                yield a, b
