"""What is particular to each motion: conventions, ranges, rejections."""

import math
import re

import pytest
import torch
from torch.testing import assert_close

from eqrestore_lightning.functional import circular_shift, rotate
from eqrestore_lightning.functional._shift import zero_fill_shift
from eqrestore_lightning.motions import Product, QuarterTurn, Shift, Turn
from eqrestore_lightning.motions._product import replace_shift


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_positive_shifts_go_down_and_right():
    x = torch.zeros(1, 1, 3, 4)
    x[0, 0, 0, 0] = 1
    moved = Shift().apply(x, {"shift": torch.tensor([[1, 2]])})
    assert moved[0, 0].nonzero().tolist() == [[1, 2]]
    assert Shift().fields[0].columns == ("down", "right")
    assert Shift((-3, -1)).fields[0].columns == ("deep", "right")
    along = Shift((-2,)).apply(x, {"shift": torch.tensor([[2]])})
    assert along[0, 0].nonzero().tolist() == [[2, 0]]


@pytest.mark.parametrize("size", [(6, 6), (6, 9)])
@pytest.mark.parametrize(("max_shift", "largest"), [(0, (0, 0)), (2, (2, 2)), (None, None)])
def test_shifts_are_drawn_from_their_whole_range(size, max_shift, largest):
    shift = Shift(max_shift=max_shift).draw(2000, size, generator=_seeded())["shift"]
    for column, most in zip(shift.T, largest or [n // 2 for n in size], strict=True):
        assert column.unique().tolist() == list(range(-most, most + 1))


def test_shifts_filled_with_zeros_lose_what_leaves():
    x = 1 + torch.rand(4, 1, 5, 6)
    element = {"shift": torch.tensor([[1, -2], [0, 6], [-5, 0], [2, 2]])}
    motion = Shift(fill="zeros")
    moved = motion.apply(x, element)
    assert torch.equal(moved, zero_fill_shift(x, element["shift"]))
    assert torch.equal(motion.undo(moved, element), circular_shift(moved, -element["shift"]))
    assert not torch.equal(motion.undo(moved, element), x)  # the negative control
    along = Shift((-1,), fill="zeros").apply(x, {"shift": element["shift"][:, 1:]})
    still = torch.stack([torch.zeros(4, dtype=torch.int64), element["shift"][:, 1]], 1)
    assert torch.equal(along, zero_fill_shift(x, still))


def test_the_error_of_shifts_counts_pixels_around_the_border():
    first, second = {"shift": torch.tensor([[4, -3]])}, {"shift": torch.tensor([[0, 4]])}
    assert Shift().error(first, second, (5, 8))["shift"].tolist() == [[1, 1]]
    first, second = {"shift": torch.tensor([[4]])}, {"shift": torch.tensor([[0]])}
    assert Shift((-1,)).error(first, second, (5, 8))["shift"].tolist() == [[4]]


def test_other_arguments_of_shifts_are_refused():
    Shift(max_shift=0, fill="zeros")
    message = "Expected `axes` to be ascending and from (-3, -2, -1), but got (-4,)."
    with pytest.raises(ValueError, match=re.escape(message)):
        Shift((-4,))
    with pytest.raises(ValueError, match=r"^Expected `max_shift` to be at least 0, but got -1\.$"):
        Shift(max_shift=-1)
    message = "Expected `fill` to be one of ('circular', 'zeros'), but got 'border'."
    with pytest.raises(ValueError, match=re.escape(message)):
        Shift(fill="border")


def test_images_that_cannot_be_shifted_so_are_refused():
    Shift(max_shift=5).check((5, 8))
    message = "Expected `max_shift` to be from 0 to the size of the image, 5, but got 6."
    with pytest.raises(ValueError, match=re.escape(message)):
        Shift(max_shift=6).check((5, 8))
    Shift((-1,), max_shift=6).check((5, 8))
    message = "Expected images with at least 2 spatial axes, but got (9,)."
    for use in (Shift().check, Shift().periods, lambda size: Shift().draw(3, size)):
        with pytest.raises(ValueError, match=re.escape(message)):
            use((9,))
    assert Shift((-2, -1)).periods((3, 4, 5)) == {"shift": (4, 5)}


def test_lists_become_tuples():
    assert Shift([-1]) == Shift((-1,))
    assert hash(Shift([-1])) == hash(Shift((-1,)))
    assert Turn([0, 90]) == Turn((0, 90))
    assert hash(Turn([0, 90])) == hash(Turn((0, 90)))


@pytest.mark.parametrize("options", [{}, {"fill": "border"}, {"interpolation": "nearest"}])
def test_turns_are_rotations(options):
    x = torch.rand(3, 2, 7, 9)
    angle = torch.tensor([10.0, -75.0, 200.0])
    motion = Turn(**options)
    assert torch.equal(motion.apply(x, {"angle": angle}), rotate(x, angle, **options))
    assert torch.equal(motion.undo(x, {"angle": angle}), rotate(x, -angle, **options))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_turns_by_quarters_are_undone_exactly(dtype):
    x = torch.randint(0, 256, (4, 2, 7, 7)).to(dtype)
    element = {"angle": torch.tensor([0.0, 90.0, -180.0, 450.0])}
    moved = Turn().apply(x, element)
    assert torch.equal(Turn().undo(moved, element), x)
    by_quarters = QuarterTurn().apply(x, {"quarters": torch.tensor([0, 1, -2, 5])})
    assert torch.equal(moved, by_quarters)


@pytest.mark.parametrize("degrees", [(0.0, 360.0), (-20.0, 40.0), (15.0, 15.0)])
def test_angles_are_drawn_from_their_whole_range(degrees):
    low, high = degrees
    angle = Turn(degrees).draw(2000, (8, 8), generator=_seeded())["angle"]
    assert angle.dtype == torch.float32
    assert low <= angle.min() <= low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) <= angle.max() <= high
    quartiles = angle.quantile(torch.tensor([0.25, 0.5, 0.75]))
    expected = low + (high - low) * torch.tensor([0.25, 0.5, 0.75])
    assert_close(quartiles, expected, rtol=0, atol=0.05 * (high - low) + 1e-6)


def test_turns_of_labels_take_the_nearest_and_zeros():
    assert Turn((3.0, 4.0), fill="border").for_labels() == Turn(
        (3.0, 4.0), fill="zeros", interpolation="nearest"
    )


@pytest.mark.parametrize(
    "degrees", [(), (1.0,), (2.0, 1.0), (1, 2, 3), (math.nan, 1.0), (0.0, math.inf)]
)
def test_other_ranges_of_angles_are_refused(degrees):
    message = f"Expected `degrees` to be two finite, ascending numbers, but got {degrees}."
    with pytest.raises(ValueError, match=re.escape(message)):
        Turn(degrees)


def test_other_words_and_sizes_are_refused_by_turns():
    message = "Expected `fill` to be one of ('zeros', 'border', 'reflection'), but got 'circular'."
    with pytest.raises(ValueError, match=re.escape(message)):
        Turn(fill="circular")
    message = "Expected `interpolation` to be one of ('bilinear', 'nearest'), but got 'cubic'."
    with pytest.raises(ValueError, match=re.escape(message)):
        Turn(interpolation="cubic")
    Turn().check((7, 9))
    for size in ((9,), (3, 4, 5)):
        message = f"Expected images with two spatial axes, but got {size}."
        with pytest.raises(ValueError, match=re.escape(message)):
            Turn().check(size)


@pytest.mark.parametrize("mirrors", [False, True])
def test_every_quarter_turn_is_drawn_and_numbered(mirrors):
    motion = QuarterTurn(mirrors)
    element = motion.draw(200, (5, 5), generator=_seeded())
    index = motion.to_index(element)
    assert index.unique().tolist() == list(range(8 if mirrors else 4))
    assert motion.num_copies == (8 if mirrors else 4)
    again = motion.from_index(index)
    assert_close(again, element, rtol=0, atol=0)
    moved = motion.apply(torch.rand(1, 1, 5, 5).expand(8, -1, -1, -1), motion.from_index(
        torch.arange(8) % motion.num_copies
    ))  # fmt: skip
    assert len(moved.unique(dim=0)) == motion.num_copies


def test_images_are_mirrored_first_then_turned_counter_clockwise():
    x = torch.rand(1, 2, 5, 5)
    one = torch.tensor([1])
    moved = QuarterTurn(mirrors=True).apply(x, {"mirrored": one, "quarters": one})
    assert torch.equal(moved, torch.rot90(x.flip(3), 1, (2, 3)))
    assert torch.equal(QuarterTurn().apply(x, {"quarters": one}), torch.rot90(x, 1, (2, 3)))


def test_numbers_of_turns_and_mirror_images_wrap_around():
    x, motion = torch.rand(3, 2, 5, 5), QuarterTurn(mirrors=True)
    element = {"mirrored": torch.tensor([0, 1, 1]), "quarters": torch.tensor([1, 2, 3])}
    later = {"mirrored": torch.tensor([2, -1, 3]), "quarters": torch.tensor([5, -2, -1])}
    assert torch.equal(motion.apply(x, later), motion.apply(x, element))
    assert torch.equal(motion.undo(x, later), motion.undo(x, element))
    assert torch.equal(motion.to_index(later), motion.to_index(element))
    assert all(
        value.count_nonzero() == 0 for value in motion.error(later, element, (5, 5)).values()
    )


@pytest.mark.parametrize("quarters", [[1], [3, 1, -1], [0, 2, 4], [2], []])
@pytest.mark.parametrize("shifts", [False, True])
def test_images_that_are_not_square_are_turned_where_the_batch_keeps_one_shape(quarters, shifts):
    motion = QuarterTurn(mirrors=True)
    count = len(quarters)
    element = {"quarters": torch.tensor(quarters, dtype=torch.int64)}
    element["mirrored"] = torch.arange(count) % 2
    if shifts:
        motion = Product(motion, Shift())
        element["shift"] = torch.randint(-9, 9, (count, 2))
    x = torch.rand(count, 2, 3, 5)
    size = (5, 3) if any(quarter % 2 for quarter in quarters) else (3, 5)
    assert motion.moved_size((3, 5), element) == size
    moved = motion.apply(x, element)
    assert moved.shape == (count, 2, *size)
    assert torch.equal(motion.undo(moved, element), x)
    assert torch.equal(motion.apply(motion.undo(x, element), element), x)
    down, right = torch.tensor([0, 2]), torch.tensor([1, 4])
    middles = torch.stack([down, right], 1).expand(count, 2, 2).unsqueeze(2) + 0.5
    points = motion.apply_points(middles, element, (3, 5))
    for image, before, pixels in zip(moved, x, points.squeeze(2).long(), strict=True):
        assert torch.equal(image[:, pixels[:, 0], pixels[:, 1]], before[:, down, right])
    back = motion.undo_points(points, element, size)
    assert torch.equal(back, middles)


def test_turns_that_do_not_fit_into_one_batch_are_refused():
    element = {"quarters": torch.tensor([0, 1])}
    QuarterTurn().apply(torch.zeros(2, 1, 4, 4), element)
    message = "pass such images one by one, or crop them to squares."
    points = torch.zeros(2, 1, 1, 2)
    for move in (
        lambda: QuarterTurn().apply(torch.zeros(2, 1, 3, 4), element),
        lambda: QuarterTurn().undo_points(points, element, (3, 4)),
        lambda: Product(QuarterTurn(), Shift()).moved_size((3, 4), element),
    ):
        with pytest.raises(ValueError, match=message):
            move()
    with pytest.raises(ValueError, match=r"Expected images with two spatial axes, but got \(5,\)"):
        QuarterTurn().check((5,))


def test_products_apply_from_first_to_last_and_undo_from_last_to_first():
    turn, shift = QuarterTurn(), Shift()
    x = torch.rand(9, 2, 6, 6)
    first, second = Product(turn, shift), Product(shift, turn)
    element = first.draw(9, (6, 6), generator=_seeded())
    assert torch.equal(first.apply(x, element), shift.apply(turn.apply(x, element), element))
    assert torch.equal(first.undo(x, element), turn.undo(shift.undo(x, element), element))
    assert torch.equal(second.apply(x, element), turn.apply(shift.apply(x, element), element))
    assert not torch.equal(first.apply(x, element), second.apply(x, element))


def test_products_join_fields_periods_and_parts():
    turn, shift, quarter = Turn(), Shift((-1,), max_shift=3), QuarterTurn()
    product = Product(turn, Product(shift, quarter))
    assert product.fields == (*turn.fields, *shift.fields, *quarter.fields)
    assert product.periods((7, 7)) == {"angle": (360,), "shift": (7,), "quarters": (4,)}
    assert product.parts == (turn, shift, quarter)
    assert product.for_labels() == Product(turn.for_labels(), Product(shift, quarter))
    product.check((7, 7))
    message = "Expected `max_shift` to be from 0 to the size of the image, 2, but got 3."
    with pytest.raises(ValueError, match=re.escape(message)):
        product.check((2, 2))


def test_products_without_motions_or_with_one_field_twice_are_refused():
    Product(Shift())
    with pytest.raises(ValueError, match=r"^Expected at least one motion, but got none\.$"):
        Product()
    message = "Expected motions with different fields, but got ['shift', 'angle', 'shift']."
    with pytest.raises(ValueError, match=re.escape(message)):
        Product(Shift((-1,)), Turn(), Shift((-2,)))


def test_parts_of_a_product_are_drawn_independently():
    element = Product(Shift(), QuarterTurn(mirrors=True)).draw(4000, (4, 4), generator=_seeded())
    together = torch.stack([element["mirrored"], element["quarters"], element["shift"][:, 0]])
    assert_close(torch.corrcoef(together.double()), torch.eye(3).double(), rtol=0, atol=0.06)


def test_replace_shift_changes_the_shift_alone():
    assert replace_shift(Shift((-1,)), max_shift=4) == Shift((-1,), max_shift=4)
    product = Product(Turn(), Shift(max_shift=0))
    expected = Product(Turn(), Shift(max_shift=2, fill="zeros"))
    assert replace_shift(product, max_shift=2, fill="zeros") == expected
    assert replace_shift(Turn(), max_shift=0, fill="circular") == Turn()
    message = (
        "Expected a motion that shifts images, to apply {'max_shift': 2} to, but got one with the "
        "fields ['angle']."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        replace_shift(Turn(), max_shift=2)
    with pytest.raises(ValueError, match=r"to apply \{'fill': 'zeros'\} to, but got one"):
        replace_shift(Turn(), fill="zeros")
