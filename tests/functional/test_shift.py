import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import (
    check_axes,
    index_to_shift,
    random_shift,
    scores_to_shift,
    shift_to_index,
    zero_fill_shift,
)

SIZES = [(7,), (8,), (5, 8), (6, 6), (3, 4, 5)]
DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
]


def _rolled(x, shift):
    dims = tuple(range(1, x.ndim - 1))
    return torch.stack([one.roll(tuple(s), dims) for one, s in zip(x, shift.tolist(), strict=True)])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_circular_shift_equals_roll_of_each_sample(size, dtype):
    x = torch.randint(0, 100, (4, 3, *size)).to(dtype)
    shift = random_shift(4, 20, num_spatial_dims=len(size))
    before = x.clone()
    shifted = circular_shift(x, shift)
    assert shifted.dtype == dtype
    assert torch.equal(shifted, _rolled(x, shift))
    assert torch.equal(x, before)


def test_circular_shift_takes_empty_batch_and_strided_input():
    assert circular_shift(torch.rand(0, 2, 3, 4), torch.zeros(0, 2, dtype=torch.int64)).shape == (
        (0, 2, 3, 4)
    )
    x = torch.rand(2, 4, 3, 5).transpose(1, 3)
    shift = torch.tensor([[1, 2], [-2, 0]])
    assert torch.equal(circular_shift(x, shift), _rolled(x, shift))


def test_circular_shift_has_the_right_gradient():
    x = torch.rand(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    shift = torch.tensor([[1, 2], [-2, 0]])
    assert torch.autograd.gradcheck(lambda value: circular_shift(value, shift), (x,))


def test_circular_shift_survives_compile_and_vmap():
    x, shift = torch.rand(3, 1, 4, 5), torch.tensor([[1, 2], [0, 0], [-3, 4]])
    expected = circular_shift(x, shift)
    compiled = torch.compile(circular_shift, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, shift), expected)
    exported = torch.export.export(_Shift(), (x, shift))
    assert torch.equal(exported.module()(x, shift), expected)


class _Shift(torch.nn.Module):
    def forward(self, x, shift):
        return circular_shift(x, shift)


AXES = [
    ((7,), (-1,)),
    ((5, 8), (-1,)),
    ((5, 8), (-2,)),
    ((5, 8), (-2, -1)),
    ((3, 4, 5), (-3,)),
    ((3, 4, 5), (-3, -1)),
    ((3, 4, 5), (-2, -1)),
]


@pytest.mark.parametrize(("size", "axes"), AXES)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_circular_shift_moves_along_the_given_axes_only(size, axes, dtype):
    x = torch.randint(0, 100, (6, 2, *size)).to(dtype)
    shift = random_shift(6, 20, num_spatial_dims=len(axes))
    shifted = circular_shift(x, shift, axes=axes)
    expected = [one.roll(s.tolist(), axes) for one, s in zip(x, shift, strict=True)]
    assert shifted.dtype == dtype
    assert torch.equal(shifted, torch.stack(expected))
    assert torch.equal(circular_shift(shifted, -shift, axes=axes), x)


@pytest.mark.parametrize(("size", "axes"), AXES)
def test_zero_fill_shift_moves_along_the_given_axes_only(size, axes):
    x = 1 + torch.rand(6, 2, *size)
    shift = random_shift(6, 3, num_spatial_dims=len(axes))
    every = torch.zeros(6, len(size), dtype=torch.int64)
    every[:, [len(size) + axis for axis in axes]] = shift
    shifted = zero_fill_shift(x, shift, axes=axes)
    assert torch.equal(shifted, zero_fill_shift(x, every))
    lost = shifted == 0
    assert torch.equal(shifted, torch.where(lost, 0, circular_shift(x, shift, axes=axes)))


@pytest.mark.parametrize("axes", [(), (0,), (1,), (-1, -2), (-2, -2), (-3,), (2, 3)])
@pytest.mark.parametrize("function", [circular_shift, zero_fill_shift])
def test_other_axes_are_rejected(function, axes):
    x, shift = torch.rand(2, 1, 3, 4), torch.zeros(2, len(axes), dtype=torch.int64)
    message = f"Expected `axes` to be ascending and from (-2, -1), but got {axes}."
    with pytest.raises(ValueError, match=re.escape(message)):
        function(x, shift, axes=axes)


@pytest.mark.parametrize("function", [circular_shift, zero_fill_shift])
def test_shifts_need_one_column_for_each_axis(function):
    x = torch.rand(2, 1, 3, 4)
    function(x, torch.zeros(2, 1, dtype=torch.int64), axes=(-1,))
    for shape in ((2, 2), (1, 1), (2, 1, 1)):
        message = f"Expected `shift` to have shape (batch, num_axes) = (2, 1), but got {shape}."
        with pytest.raises(ValueError, match=re.escape(message)):
            function(x, torch.zeros(shape, dtype=torch.int64), axes=(-1,))


def test_check_axes_returns_a_tuple():
    assert check_axes([-3, -1], 3) == (-3, -1)
    assert check_axes(None, 3) == (-3, -2, -1)
    message = "Expected `axes` to be ascending and from (-1,), but got (-2, -1)."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_axes([-2, -1], 1)


def test_circular_shift_rejects_other_dtypes_and_ranks():
    with pytest.raises(TypeError, match=r"Expected `shift` to have dtype torch\.int64, but got"):
        circular_shift(torch.rand(1, 1, 3), torch.zeros(1, 1))
    message = "Expected `x` to have shape (batch, channels, *spatial), but got (3, 4)."
    with pytest.raises(ValueError, match=re.escape(message)):
        circular_shift(torch.rand(3, 4), torch.zeros(3, 0, dtype=torch.int64))


@pytest.mark.parametrize("size", SIZES)
def test_zero_fill_shift_keeps_what_stays_inside_and_loses_the_rest(size):
    x = torch.rand(5, 2, *size) + 1
    shift = random_shift(5, min(size) - 1, num_spatial_dims=len(size))
    shifted = zero_fill_shift(x, shift)
    for one, result, moves in zip(x, shifted, shift.tolist(), strict=True):
        expected = torch.zeros_like(one)
        target = tuple(slice(max(0, m), n + min(0, m)) for m, n in zip(moves, size, strict=True))
        source = tuple(slice(max(0, -m), n + min(0, -m)) for m, n in zip(moves, size, strict=True))
        expected[(slice(None), *target)] = one[(slice(None), *source)]
        assert torch.equal(result, expected)


def test_zero_fill_shift_by_more_than_the_image_leaves_nothing():
    shifted = zero_fill_shift(torch.ones(1, 1, 3, 4), torch.tensor([[0, 5]]))
    assert shifted.count_nonzero() == 0


def test_random_shift_depends_on_its_generator_only():
    first = random_shift(9, 5, generator=torch.Generator().manual_seed(3))
    torch.rand(7)
    assert torch.equal(first, random_shift(9, 5, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("max_shift", [(3, 3), (1, 4), (0, 2)])
def test_random_shift_draws_each_axis_from_its_own_range(max_shift):
    shift = random_shift(3000, max_shift, generator=torch.Generator().manual_seed(1))
    assert shift.dtype == torch.int64
    for column, largest in zip(shift.T, max_shift, strict=True):
        values, counts = column.unique(return_counts=True)
        assert values.tolist() == list(range(-largest, largest + 1))
        share = counts / 3000 * len(values)
        assert_close(share, torch.ones_like(share), rtol=0, atol=0.2)
    few, many = (
        random_shift(count, max_shift, generator=torch.Generator().manual_seed(1))
        for count in (7, 70)
    )
    assert torch.equal(few, many[:7])
    message = "Expected `max_shift` to be one number or 3, but got (1, 2)."
    with pytest.raises(ValueError, match=re.escape(message)):
        random_shift(2, (1, 2), num_spatial_dims=3)
    with pytest.raises(ValueError, match=re.escape("to be at least 0, but got (1, -2).")):
        random_shift(2, (1, -2))


def test_random_shift_rejects_negative_sizes():
    assert random_shift(2, 0).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"Expected `max_shift` to be at least 0, but got -1\."):
        random_shift(2, -1)


@pytest.mark.parametrize("size", SIZES)
def test_scores_to_shift_finds_every_place_and_shift_to_index_goes_back(size):
    places = torch.eye(torch.tensor(size).prod().item()).reshape(-1, *size)
    shift = scores_to_shift(places)
    assert shift_to_index(shift, size).tolist() == list(range(len(places)))
    assert torch.equal(index_to_shift(torch.arange(len(places)), size), shift)
    for axis, length in enumerate(size):
        assert shift[:, axis].min() == -(length // 2)
        assert shift[:, axis].max() == (length - 1) // 2


def test_scores_to_shift_follows_circular_shift():
    scores = torch.rand(6, 1, 5, 8)
    shift = random_shift(6, 9)
    before = scores_to_shift(scores[:, 0])
    after = scores_to_shift(circular_shift(scores, shift)[:, 0])
    assert torch.equal(shift_to_index(after, (5, 8)), shift_to_index(before + shift, (5, 8)))


def test_ties_go_to_the_lowest_index():
    assert scores_to_shift(torch.tensor([[0.0, 5.0, 5.0, 1.0]])).tolist() == [[1]]


def test_scores_to_shift_rejects_what_is_no_map():
    message = "Expected `scores` to have shape (batch, *spatial) with at least one place"
    for shape in ((4,), (4, 0), (4, 3, 0)):
        with pytest.raises(ValueError, match=re.escape(message)):
            scores_to_shift(torch.rand(shape))
    assert scores_to_shift(torch.rand(0, 3, 4)).shape == (0, 2)


def test_shift_to_index_rejects_another_number_of_axes():
    message = "Expected `shift` to have shape (batch, 3), but got (1, 2)."
    with pytest.raises(ValueError, match=re.escape(message)):
        shift_to_index(torch.tensor([[1, 2]]), (3, 4, 5))
