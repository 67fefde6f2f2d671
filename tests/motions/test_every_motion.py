"""What holds for every motion, those of the package and one that a user defines."""

import json
import re
from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close
from torchvision import tv_tensors

from eqrestore_lightning.motions import Element, Field, Motion, Product, QuarterTurn, Shift, Turn
from eqrestore_lightning.motions._base import build_motion
from eqrestore_lightning.transforms import RandomMotion


@dataclass(frozen=True)
class FlipAlongAxis(Motion):
    """A motion that the package does not have."""

    axis: int = -1

    @property
    def fields(self):
        return (Field("flipped", "flips"),)

    def periods(self, spatial_size):
        return {"flipped": (2,)}

    def draw(self, batch_size, spatial_size, *, generator=None):
        return {"flipped": torch.randint(2, (batch_size,), generator=generator)}

    def apply(self, x, element):
        flipped = (element["flipped"] % 2 == 1).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(flipped, x.flip(self.axis), x)

    def undo(self, x, element):
        return self.apply(x, element)


EXACT = {  # motions that only move pixels, and the size of the images
    "shift": (Shift(), (5, 8)),
    "shift, square": (Shift(), (6, 6)),
    "shift of a signal": (Shift((-1,)), (9,)),
    "shift of a panorama": (Shift((-1,)), (5, 8)),
    "shift downwards": (Shift((-2,), max_shift=2), (5, 8)),
    "shift of a volume": (Shift((-3, -2, -1)), (3, 4, 5)),
    "shift of two axes of a volume": (Shift((-3, -1), max_shift=3), (3, 4, 5)),
    "quarter turns": (QuarterTurn(), (6, 6)),
    "quarter turns, mirrored": (QuarterTurn(mirrors=True), (7, 7)),
    "flip": (FlipAlongAxis(-2), (5, 8)),
    "product": (Product(QuarterTurn(mirrors=True), Shift()), (6, 6)),
    "product of three": (Product(Shift((-2,)), FlipAlongAxis(), QuarterTurn()), (5, 5)),
}
MOTIONS = {
    **EXACT,
    "lossy shift": (Shift(max_shift=3, fill="zeros"), (5, 8)),
    "turn": (Turn(), (7, 7)),
    "turn a little": (Turn((-30.0, 30.0), fill="border", interpolation="nearest"), (6, 9)),
    "turn and shift": (Product(Turn(fill="reflection"), Shift(max_shift=0)), (7, 8)),
}
DTYPES = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64]


def _images(size, batch=20, dtype=torch.float32):
    return torch.randint(0, 256, (batch, 2, *size)).to(dtype)


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_undo_is_the_inverse_of_apply(name, dtype):
    motion, size = EXACT[name]
    x = _images(size, dtype=dtype)
    before = x.clone()
    element = motion.draw(len(x), size)
    moved = motion.apply(x, element)
    assert moved.dtype == dtype
    assert moved.shape == x.shape
    assert not torch.equal(moved, x)
    assert torch.equal(motion.undo(moved, element), x)
    assert torch.equal(motion.apply(motion.undo(x, element), element), x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", MOTIONS)
def test_what_does_not_move_is_the_identity(name, dtype):
    motion, size = MOTIONS[name]
    x = _images(size, dtype=dtype)
    still = motion.still(len(x))
    assert torch.equal(motion.apply(x, still), x)
    assert torch.equal(motion.undo(x, still), x)
    assert all(value.count_nonzero() == 0 for value in still.values())


def _assert_described(element: Element, motion: Motion, batch_size: int) -> None:
    assert set(element) == {field.name for field in motion.fields}
    for field in motion.fields:
        value = element[field.name]
        assert value.shape == (batch_size, *([len(field.columns)] if field.columns else []))
        assert value.is_floating_point() != field.integer
        assert not field.integer or value.dtype == torch.int64


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("batch_size", [0, 1, 7])
def test_elements_have_the_fields_that_the_motion_names(name, batch_size):
    motion, size = MOTIONS[name]
    _assert_described(motion.draw(batch_size, size), motion, batch_size)
    _assert_described(motion.still(batch_size), motion, batch_size)
    x = _images(size, batch=batch_size)
    assert motion.apply(x, motion.still(batch_size)).shape == x.shape
    assert motion.undo(x, motion.draw(batch_size, size)).shape == x.shape


@pytest.mark.parametrize("name", MOTIONS)
def test_the_first_ones_drawn_are_the_same_however_many_follow(name):
    motion, size = MOTIONS[name]
    few, many = (motion.draw(count, size, generator=_seeded(3)) for count in (5, 50))
    torch.manual_seed(3)
    few_of_all = motion.draw(5, size)
    torch.manual_seed(3)
    many_of_all = motion.draw(50, size)
    for key in few:
        assert torch.equal(few[key], many[key][:5])
        assert torch.equal(few_of_all[key], many_of_all[key][:5])


@pytest.mark.parametrize("name", MOTIONS)
def test_draws_depend_on_their_generator_only(name):
    motion, size = MOTIONS[name]
    first = motion.draw(40, size, generator=_seeded())
    torch.rand(3)
    assert_close(motion.draw(40, size, generator=_seeded()), first, rtol=0, atol=0)
    other = motion.draw(40, size, generator=_seeded(1))
    assert any(not torch.equal(other[key], first[key]) for key in first)


@pytest.mark.parametrize("name", MOTIONS)
def test_the_configuration_is_plain_json_and_builds_the_same(name):
    motion, _ = MOTIONS[name]
    config = json.loads(json.dumps(motion.config))
    assert config == motion.config
    twin = build_motion(config)
    assert twin == motion
    assert type(twin) is type(motion)
    assert hash(twin) == hash(motion)
    assert config["kind"] == type(motion).__name__


@pytest.mark.parametrize("name", MOTIONS)
def test_after_a_period_an_element_is_the_same(name):
    motion, size = MOTIONS[name]
    periods = motion.periods(size)
    assert list(periods) == [field.name for field in motion.fields]
    element = motion.draw(9, size)
    later = {
        key: value + torch.tensor(periods[key] if value.ndim == 2 else periods[key][0])
        for key, value in element.items()
    }
    x = _images(size, batch=9, dtype=torch.float64)
    assert_close(motion.undo(x, later), motion.undo(x, element), rtol=0, atol=0.1)
    error = motion.error(later, element, size)
    assert all((value <= 1e-4).all() for value in error.values())


@pytest.mark.parametrize("name", MOTIONS)
def test_the_error_is_symmetric_and_by_the_shorter_way(name):
    motion, size = MOTIONS[name]
    first, second = motion.draw(60, size), motion.draw(60, size)
    error = motion.error(first, second, size)
    assert set(error) == set(first)
    assert_close(motion.error(second, first, size), error, rtol=0, atol=1e-4)
    for key, period in motion.periods(size).items():
        assert error[key].shape == first[key].shape
        half = torch.tensor(period) / 2
        assert ((error[key] >= 0) & (error[key] <= half)).all()
    zero = motion.error(first, first, size)
    assert all(value.count_nonzero() == 0 for value in zero.values())


@pytest.mark.parametrize("name", MOTIONS)
def test_labels_are_moved_and_not_mixed(name):
    motion, size = MOTIONS[name]
    labels = 50 * torch.randint(1, 5, (20, 1, *size))
    element = motion.draw(20, size)
    moved = motion.for_labels().apply(labels, element)
    assert set(moved.unique().tolist()) <= {0, 50, 100, 150, 200}
    assert motion.for_labels().fields == motion.fields
    assert motion.for_labels().for_labels() == motion.for_labels()


@pytest.mark.parametrize("name", EXACT)
def test_exact_motions_move_labels_as_images(name):
    motion, _ = EXACT[name]
    assert motion.for_labels() == motion


@pytest.mark.parametrize("name", MOTIONS)
def test_samples_are_moved_at_random(name):
    motion, size = MOTIONS[name]
    x = _images(size)
    moved = RandomMotion(motion, num_spatial_dims=len(size), generator=_seeded(2))(x)
    element = motion.draw(len(x), size, generator=_seeded(2))
    assert torch.equal(moved, motion.apply(x, element))


def test_a_sample_of_image_mask_and_label_moves_together():
    image = tv_tensors.Image(_images((5, 8), batch=1)[0])
    mask = tv_tensors.Mask(image.sum(0).as_subclass(torch.Tensor))
    moved, moved_mask, label = RandomMotion(FlipAlongAxis(-2), generator=_seeded(1))(image, mask, 7)
    assert torch.equal(moved, image.flip(-2))
    assert isinstance(moved_mask, tv_tensors.Mask)
    assert torch.equal(moved_mask, mask.flip(-2))
    assert label == 7


MOVE_POINTS = [name for name in MOTIONS if "flip" not in name and name != "product of three"]


def _middles(size):
    """Return the middles of all pixels, as things of one point each."""
    middles = torch.cartesian_prod(*(torch.arange(side) + 0.5 for side in size))
    return middles.reshape(1, -1, 1, len(size)).double()


def _at(x, points):
    """Return what images hold at points: `(batch, things)`."""
    places = points.floor().long().squeeze(2)
    return torch.stack([one[tuple(place.T)] for one, place in zip(x, places, strict=True)])


@pytest.mark.parametrize("name", [name for name in EXACT if name in MOVE_POINTS])
def test_points_go_where_pixels_go(name):
    motion, size = EXACT[name]
    x = torch.arange(20 * torch.Size(size).numel()).reshape(20, *size)
    points = _middles(size).expand(20, -1, -1, -1)
    element = motion.draw(20, size, generator=_seeded())
    expected = _at(x, points)
    moved = motion.apply(x.unsqueeze(1), element).squeeze(1)
    restored = motion.undo(x.unsqueeze(1), element).squeeze(1)
    assert torch.equal(_at(moved, motion.apply_points(points, element, size)), expected)
    assert torch.equal(_at(restored, motion.undo_points(points, element, size)), expected)
    wrong = _at(moved, motion.undo_points(points, element, size))
    assert not torch.equal(wrong, expected)  # the negative control


@pytest.mark.parametrize("name", MOVE_POINTS)
def test_undoing_is_the_inverse_for_points_too(name):
    motion, size = MOTIONS[name]
    middle = torch.tensor(size) / 2
    points = (middle + torch.rand(20, 7, 1, len(size)) - 0.5).double()  # they stay inside
    element = motion.draw(20, size)
    moved = motion.apply_points(points, element, size)
    assert moved.dtype == points.dtype
    assert not torch.allclose(moved, points)
    assert_close(motion.undo_points(moved, element, size), points)
    still = motion.still(20)
    assert torch.equal(motion.apply_points(points, still, size), points)


def test_bright_spots_go_where_their_points_go():
    motion, size = Product(Turn(), Shift()), (41, 51)
    element = {"angle": torch.tensor([33.0]), "shift": torch.tensor([[17, -21]])}
    x = torch.zeros(1, 1, *size)
    x[0, 0, 12:15, 30:33] = 1
    point = torch.tensor([[[[13.5, 31.5]]]], dtype=torch.float64)
    moved = motion.apply(x, element)[0, 0]
    down, right = motion.apply_points(point, element, size).flatten() - 0.5
    rows, columns = torch.meshgrid(torch.arange(41), torch.arange(51), indexing="ij")
    assert_close((moved * rows).sum() / moved.sum(), down.float(), rtol=0, atol=0.2)
    assert_close((moved * columns).sum() / moved.sum(), right.float(), rtol=0, atol=0.2)


@pytest.mark.parametrize("motion", [FlipAlongAxis(), Product(Shift(), FlipAlongAxis())])
def test_motions_that_do_not_say_where_points_go_refuse_them(motion):
    message = (
        "Expected a motion that moves boxes and key points, but got a FlipAlongAxis, which does "
        "not define `apply_points` and `undo_points`."
    )
    points = torch.zeros(1, 1, 1, 2)
    for moved in (motion.apply_points, motion.undo_points):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            moved(points, motion.still(1), (5, 8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Expected `config['kind']` to be one of {kinds}, but got None."),
        ({"kind": "Jump"}, "Expected `config['kind']` to be one of {kinds}, but got 'Jump'."),
        ({"kind": ["Shift"]}, "Expected `config['kind']` to be one of {kinds}, but got ['Shift']."),
        ({"kind": "Shift", "axis": -1}, "Expected `config` to describe a Shift, but got: "),
        ({"kind": "Shift", "axes": 2}, "Expected `config` to describe a Shift, but got: "),
        ({"kind": "Shift", "axes": [0, 1]}, "Expected `axes` to be ascending and from (-3, "),
        ({"kind": "Product"}, "Expected `config` to describe a Product, but got: 'motions'"),
        ({"kind": "Product", "motions": [3]}, "Expected `config` to describe a Product, but got: "),
        ({"kind": "Product", "motions": []}, "Expected at least one motion, but got none."),
        ({"kind": "Motion"}, "Expected `config['kind']` to be one of {kinds}, but got 'Motion'."),
    ],
)  # fmt: skip
def test_malformed_configurations_are_refused(config, message):
    with pytest.raises(ValueError, match=re.escape(message.format(kinds=sorted(Motion.kinds)))):
        build_motion(config)


def test_the_name_of_another_kind_is_refused():
    message = "Expected a new name for a motion, but 'Shift' is taken by "
    with pytest.raises(ValueError, match=re.escape(message)):
        type("Shift", (Motion,), {})
    assert Motion.kinds["Shift"] is Shift


def test_a_kind_may_be_defined_again():
    first, second = (_define(default) for default in (-1, -2))
    assert first is not second
    assert build_motion({"kind": "DefinedAgain"}) == second()
    assert second().axis == -2


def _define(default):
    @dataclass(frozen=True)
    class DefinedAgain(FlipAlongAxis):
        axis: int = default

    return DefinedAgain
