import multiprocessing
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from evaluation.tools import Answering, TopLeft, brightest, corners, evaluated
from torch import nn

from eqrestore_lightning import (
    Product,
    RestoreTransform,
    RotationEstimator,
    Shift,
    TranslationEstimator,
    Turn,
    rotate,
)
from eqrestore_lightning.evaluation import evaluate, register_measure, shift_motions, turn_motions
from eqrestore_lightning.evaluation._found import motion_found
from eqrestore_lightning.evaluation._measures import _MEASURES
from eqrestore_lightning.evaluation._restorers import Rule
from eqrestore_lightning.evaluation._results import NO_RESTORER
from eqrestore_lightning.metrics import Consistency

FOUND = ("shift_accuracy", "shift_accuracy_1px", "shift_distance")


class _RightSide(nn.Module):
    """Class 1 where the right half is the brighter one: correct for upright images only."""

    def forward(self, x):
        right, left = x[..., 8:].sum((1, 2, 3)), x[..., :8].sum((1, 2, 3))
        return torch.stack([left, right], dim=1)


@pytest.mark.parametrize("size", [(8, 8), (9, 6), (30,), (4, 5, 6)])
def test_a_perfect_restorer_undoes_what_shifts_cost(size):
    classifier = TopLeft().train()
    axes = tuple(range(-len(size), 0))
    evaluation = evaluated(
        classifier,
        corners(size=size),
        {"restored": brightest(size)},
        shift_motions((0, 1), axes=axes),
    )
    plain, restored = evaluation.results[0::2], evaluation.results[1::2]
    assert [(result.motion, result.at) for result in plain] == [("0", 0.0), ("1", 1.0)]
    assert {result.restorer for result in plain} == {NO_RESTORER}
    assert plain[0].measures == dict.fromkeys(
        ("accuracy", "consistency", "stability", "agreement"), 1.0
    )
    measures = plain[1].measures
    assert 0 < measures["accuracy"] < 0.6
    assert measures["agreement"] == measures["accuracy"]  # unmoved images are all correct
    assert 0.2 < measures["consistency"] < 1
    product = measures["accuracy"] * measures["consistency"]
    assert measures["stability"] == pytest.approx(product, abs=2e-7)
    for result in restored:
        expected = dict.fromkeys([*plain[0].measures, *FOUND], 1.0)
        assert result.measures == {**expected, "shift_distance": 0.0}
    assert classifier.training


def test_a_restorer_that_misplaces_shows_on_unmoved_images():
    estimator = TranslationEstimator(1, (8, 8), hidden_channels=[], kernel_size=3)
    weight = estimator.layers[0].weight
    weight.data.zero_()
    weight.data[0, 0, 0, 1] = 1.0  # the score of a place is the pixel above it
    evaluation = evaluated(
        TopLeft(),
        corners(),
        {"restored": RestoreTransform(estimator)},
        shift_motions((0, 3)),
    )
    assert (evaluation.num_images, evaluation.unmoved) == (40, {NO_RESTORER: 1, "restored": 0})
    for result in evaluation.results[1::2]:
        assert result.measures == {
            "accuracy": 0,
            "consistency": 1,  # wrong, but invariant
            "stability": 0,
            "agreement": 0,
            "shift_accuracy": 0,
            "shift_accuracy_1px": 1,
            "shift_distance": 1,
        }


class _Counting(TopLeft):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


def test_images_are_classified_once_and_the_results_are_those_of_classifying_all():
    images = torch.rand(30, 1, 8, 8)
    labels = torch.randint(2, (30,))
    restore = RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))
    classifier = _Counting()
    motion = Shift(max_shift=2)
    evaluation = evaluated(
        classifier, [(images, labels)], {"restored": restore}, {"2": motion}, seed=3
    )
    generator = torch.Generator().manual_seed(3)
    shifts = [motion.draw(30, (8, 8), generator=generator)["shift"] for _ in range(2)]
    moved = [motion.apply(images, {"shift": shift}) for shift in shifts]
    views = moved, [restore(x) for x in moved]
    for result, (first, second) in zip(evaluation.results, views, strict=True):
        one, other = (TopLeft()(view).argmax(1) for view in (first, second))
        accuracy = (one == labels).double().mean().item()
        consistency = (one == other).double().mean().item()
        assert result.measures["accuracy"] == pytest.approx(accuracy, abs=1e-7)
        assert result.measures["consistency"] == pytest.approx(consistency, abs=1e-7)
    still = sum((shift == 0).all(1).sum() for shift in shifts)
    moves = (restore.find(images).motion["shift"] != 0).any(1).sum()
    assert classifier.seen == 30 + (60 - still) + moves


def test_every_kind_of_restorer_is_taken():
    restore = brightest()
    restorers = {
        "transform": restore,
        "function": restore.forward,
        "rule": Rule(lambda x: restore.find(x).motion["shift"]),
        "module": nn.Sequential(restore),
    }
    evaluation = evaluated(TopLeft(), corners(), restorers, {"any": Shift()})
    assert [result.at for result in evaluation.results] == [None] * 5
    for name in restorers:
        measures = evaluation.get(name, "any").measures
        assert measures["accuracy"] == measures["consistency"] == 1
        assert ("shift_accuracy" in measures) == (name in ("transform", "rule"))


def test_restorers_may_change_the_size_of_images():
    corner = {"corner": lambda x: x[..., :4, :4]}
    evaluation = evaluated(TopLeft(), corners(), corner, {"0": Shift(max_shift=0)})
    assert evaluation.get("corner", "0").measures["accuracy"] == 1


def test_batches_may_be_of_different_sizes():
    batches = [*corners(size=(8, 8)), *corners(size=(6, 11))]
    finds = Rule(lambda x: (x[:, 0] == 1).nonzero()[:, 1:])
    evaluation = evaluated(TopLeft(), batches, {"r": finds}, {"3": Shift(max_shift=3)})
    measures = evaluation.get("r", "3").measures
    assert measures["accuracy"] == measures["shift_accuracy"] == 1


def test_empty_batches_add_nothing():
    empty = (torch.zeros(0, 1, 8, 8), torch.zeros(0).long())
    with_empty = evaluated(TopLeft(), [empty, *corners(), empty], {"r": brightest()})
    assert with_empty == evaluated(TopLeft(), corners(), {"r": brightest()})


def test_restorers_of_some_axes_are_compared_with_shifts_along_them():
    restore = brightest(axes=(-1,))
    motions = {"2": Shift((-1,), max_shift=2), "both": Shift(max_shift=2)}
    evaluation = evaluated(TopLeft(), corners(), {"r": restore}, motions)
    assert evaluation.get("r", "2").measures["shift_accuracy"] == 1
    assert evaluation.get("r", "2").measures["accuracy"] == 1
    both = evaluation.get("r", "both").measures
    assert 0.05 < both["accuracy"] < 0.5
    assert not set(FOUND) & set(both)


def test_what_enters_is_zeros_or_what_lies_there():
    images = torch.rand(50, 1, 12, 12) * 0.4
    images[:, :, 2, 2] = 1.0
    batches = [(images, torch.ones(50).long())]
    evaluation = evaluated(TopLeft(), batches, {"r": brightest()}, shift_motions((0, 2)), crop=2)
    assert evaluation.get(NO_RESTORER, "0").measures["accuracy"] == 1  # the window begins there
    plain, restored = evaluation.get(NO_RESTORER, "2").measures, evaluation.get("r", "2").measures
    assert plain["accuracy"] < 0.5
    assert plain["accuracy"] < restored["accuracy"] < 1  # lost where it has left the window
    assert restored["shift_accuracy"] < 0.2  # nothing was wrapped, so nothing is to be moved
    assert evaluation.get("r", "0").measures["shift_accuracy"] == 1
    corner = [(images[..., 2:10, 2:10], torch.ones(50).long())]
    for fill in ("circular", "zeros"):
        motions = shift_motions((2,), fill=fill)
        measures = evaluated(TopLeft(), corner, {"r": brightest()}, motions).results[1].measures
        assert measures["accuracy"] == measures["shift_accuracy"]
        if fill == "circular":
            assert measures["accuracy"] == 1
        else:
            assert 0.2 < measures["accuracy"] < 0.7  # it leaves to the top and to the left


def test_results_depend_on_the_seed_only():
    restorers = {"restored": RestoreTransform(TranslationEstimator(1, (8, 8), kernel_size=3))}
    first = evaluated(TopLeft(), corners(), restorers)
    torch.rand(5)
    assert evaluated(TopLeft(), corners(), restorers) == first
    assert evaluated(TopLeft(), corners(), restorers, seed=1) != first
    others = {"another": lambda x: x, **restorers}
    same = evaluated(TopLeft(), corners(), others)
    assert same.get("restored", "1") == first.get("restored", "1")
    assert same.get("another", "1").measures == first.get(NO_RESTORER, "1").measures


def _wedges(count=40):
    images = torch.zeros(count, 1, 16, 16)
    images[:, :, 7:9, 10:14] = 0.5 + 0.5 * torch.rand(count, 1, 1, 1)
    return [(images[:25], torch.ones(25).long()), (images[25:], torch.ones(count - 25).long())]


def _turned_back(x):
    """Turn images until their brightest side is to the right, one of four."""
    sums = torch.stack([torch.rot90(x, -k, (2, 3))[..., 8:].sum((1, 2, 3)) for k in range(4)], 1)
    return rotate(x, -90.0 * sums.argmax(1))


def test_a_restorer_undoes_what_turns_cost():
    evaluation = evaluated(
        _RightSide(), _wedges(), {"restored": _turned_back}, turn_motions((0, 90, 180))
    )
    plain, restored = evaluation.results[0::2], evaluation.results[1::2]
    assert [result.at for result in restored] == [0, 90, 180, None]
    accuracies = [result.measures["accuracy"] for result in plain]
    assert (accuracies[0], accuracies[2]) == (1, 0)
    assert 0.3 < accuracies[3] < 0.7
    assert [result.measures["consistency"] for result in plain[:3]] == [1, 1, 1]  # one draw
    assert 0.2 < plain[3].measures["consistency"] < 0.8
    assert plain[2].measures["agreement"] == 0
    for result in restored:
        assert result.measures["accuracy"] == result.measures["consistency"] == 1


def test_turns_are_found():
    estimator = RotationEstimator(1, (16, 16), num_radii=4, num_angles=8, kernel_size=3)
    restore = RestoreTransform(estimator)
    motions = {**turn_motions((0,)), "shifted": Product(Turn(), Shift(max_shift=2))}
    evaluation = evaluated(_RightSide(), _wedges(), {"r": restore}, motions)
    for label in ("0", "any"):
        measures = evaluation.get("r", label).measures
        assert 0 <= measures["angle_accuracy_10deg"] <= 1
        assert 0 <= measures["angle_distance"] <= 180
    assert evaluation.units == {"angle_distance": "degrees"}
    shifted = evaluation.get("r", "shifted").measures
    assert set(shifted) == {"accuracy", "consistency", "stability", "agreement"}


def test_images_may_be_turned_and_shifted():
    motions = turn_motions((0,), max_shift=8)
    assert motions["any"] == Product(Turn(), Shift(max_shift=8))
    evaluation = evaluated(_RightSide(), _wedges(), motions=motions)
    measures = evaluation.get(NO_RESTORER, "0").measures
    assert 0.2 < measures["accuracy"] < 0.8
    assert measures["consistency"] < 1


def test_a_measure_is_registered_in_one_place():
    with mock.patch.dict(_MEASURES):

        @register_measure("other_way_around", Consistency)
        def other_way_around(outcome):
            return {"preds": outcome.unmoved, "target": outcome.first}

        @register_measure("never", Consistency)
        def never(outcome):
            return None

        (_, result) = evaluated(TopLeft(), corners()).results
        assert result.measures["other_way_around"] == result.measures["agreement"] < 1
        assert "never" not in result.measures


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: (logits, "attentions"),
        lambda logits: {"loss": None, "logits": logits},
        lambda logits: SimpleNamespace(logits=logits),
    ],
)
def test_logits_are_taken_out_of_what_classifiers_return(wrap):
    restorers, plain = {"r": brightest()}, TopLeft()
    wrapped = Answering(lambda x: wrap(plain(x)))
    assert evaluated(wrapped, corners(), restorers) == evaluated(TopLeft(), corners(), restorers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_classifiers_get_images_in_their_own_dtype(dtype):
    images = torch.rand(20, 1, 8, 8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    labels = network(images).argmax(1)
    evaluation = evaluated(network.to(dtype), [(images, labels)], motions=shift_motions((0,)))
    assert evaluation.get(NO_RESTORER, "0").measures["accuracy"] >= 0.9


def test_labels_say_which_of_more_classes_is_meant():
    images = torch.rand(30, 1, 2, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 9))
    answers = network(images).argmax(1)
    known = sorted(set(answers.tolist()), reverse=True)
    numbers = torch.tensor([known.index(answer) for answer in answers.tolist()])
    evaluation = evaluated(network, [(images, numbers)], labels=known, motions=shift_motions((0,)))
    assert evaluation.unmoved == {NO_RESTORER: 1.0}
    with pytest.raises(ValueError, match=f"from 0 to {len(known) - 2}, the places of `labels`"):
        evaluated(network, [(images, numbers)], labels=known[:-1])


def test_a_classifier_that_knows_other_classes_is_noticed():
    last = Answering(lambda x: torch.eye(1000)[999].expand(len(x), 1000))
    images = torch.rand(40, 1, 4, 4)
    with pytest.warns(UserWarning, match="have 40 classes, the classifier has 1000, and 100 %"):
        evaluated(last, [(images, torch.arange(40))])
    evaluated(last, [(images, torch.full((40,), 999))])  # few classes are no mistake


def _evaluate_alone(rank, store, results):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    if rank == 0:
        images, labels = torch.eye(1, 5).expand(8, 1, 5), torch.zeros(8, dtype=torch.int64)
        motions = shift_motions([0, 2], axes=(-1,))
        rule = Rule(lambda x: x.argmax(2))
        batches = [(images, labels)]
        evaluation = evaluate(nn.Flatten(), batches, restorers={"restored": rule}, motions=motions)
        found = motion_found([images], rule, motion=Shift((-1,)))
        results.put((evaluation.get("restored", "2").measures["accuracy"], found["shift_accuracy"]))


def test_one_process_of_a_launch_evaluates_while_the_others_have_ended(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_evaluate_alone, args=(rank, tmp_path / "store", results))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert results.get(timeout=10) == (1.0, 1.0)
