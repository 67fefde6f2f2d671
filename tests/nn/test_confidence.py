import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import Categorical
from torch.testing import assert_close

from eqrestore_lightning import RestoreTransform, evaluate, save_estimator
from eqrestore_lightning.functional import rotate
from eqrestore_lightning.motions import QuarterTurn, Turn
from eqrestore_lightning.nn import ConfidenceEstimator
from eqrestore_lightning.training import calibrate

MIRRORED = {"motion": QuarterTurn(mirrors=True)}
KINDS = [{}, MIRRORED, {"num_angles": 12}, {"motion": Turn(fill="border")}]


class Network(nn.Module):
    """A small classifier with random weights, of images of any size and dtype."""

    def __init__(self, channels=3):
        super().__init__()
        self.seen = []
        self.conv = nn.Conv2d(channels, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 9, 10)

    def forward(self, x):
        self.seen.append(len(x))
        y = self.norm(self.conv(x.float() / 255 - 0.5)).relu()
        return 30 * self.head(nn.functional.adaptive_avg_pool2d(y, 3).flatten(1))


class UpFrom(nn.Module):
    """Surest where an image is bright above its center: class 0; else it is 1, or so."""

    def forward(self, x):
        rows = torch.linspace(1, -1, x.shape[2], dtype=torch.float64).unsqueeze(1)
        mass = x.double().mean(1)
        up = (mass * rows).sum((1, 2)) / mass.sum((1, 2))
        return torch.stack([20 * up.clamp(min=0), torch.full_like(up, 0.5)], 1)


@pytest.fixture
def network():
    torch.manual_seed(3)
    return Network().eval()


def _images(count, *size):
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)


@pytest.mark.parametrize(("size", "dtype"), [(24, torch.uint8), (27, torch.float32)])
@pytest.mark.parametrize("options", KINDS)
def test_every_quarter_turn_is_restored_to_the_same_image(network, options, size, dtype):
    restore = RestoreTransform(ConfidenceEstimator(network, **options))
    x = _images(8, size, size).to(dtype)
    x[0] = 7  # constant
    x[1] = x[1] // 2 + torch.rot90(x[1], 2, (1, 2)) // 2  # looks the same upside down
    restored = restore(x)
    assert restored.dtype == dtype
    for quarters in range(4):
        turned = torch.rot90(x, quarters, (2, 3))
        assert torch.equal(restore(turned), restored)
        if options is MIRRORED:
            assert torch.equal(restore(turned.flip(3)), restored)
    if options is not MIRRORED:
        assert not torch.equal(restore(x.flip(3)), restored)


def test_pictures_that_are_not_square_are_restored_to_equal_bits(network):
    restore = RestoreTransform(ConfidenceEstimator(network))
    for x in _images(6, 20, 31):
        turned = [torch.rot90(x, quarters, (1, 2)) for quarters in range(4)]
        restored = [restore(each) for each in turned]
        assert all(torch.equal(each, restored[0]) for each in restored)
        found = [restore.find(each) for each in turned]
        assert all(map(torch.equal, map(restore.redo, restored, found), turned))


@pytest.mark.parametrize("quarters", range(4))
def test_scores_are_negative_entropies_of_the_copies(network, quarters):
    x = _images(5, 22, 22)
    estimator = ConfidenceEstimator(network, **MIRRORED)
    copies = [torch.rot90(x, -turn, (2, 3)) for turn in range(4)]
    copies += [copy.flip(3) for copy in copies]
    with torch.no_grad():
        logits = torch.stack([network(copy) for copy in copies], 1)
    assert_close(estimator.answers(x), logits.double())
    scores = estimator.exact_scores(x)
    assert_close(scores, -Categorical(logits=logits.double()).entropy())
    element = {"mirrored": torch.zeros(5).long(), "quarters": torch.full((5,), quarters)}
    moved = estimator.exact_scores(estimator.motion.apply(x, element))
    assert torch.equal(moved[:, quarters], scores[:, 0])
    assert torch.equal(moved.sort(1).values, scores.sort(1).values)


def test_for_any_angle_copies_are_turned_discs_in_their_median_color(network):
    x = _images(3, 25, 31).double()
    square = x[..., 3:28]
    places = torch.arange(25) - 12
    disc = places.unsqueeze(1) ** 2 + places**2 <= 12**2
    color = square[:, :, disc].median(2).values.reshape(3, 3, 1, 1)
    filled = torch.where(disc, square, color)
    expected = [
        network(torch.where(disc, rotate(filled, torch.full((3,), -30.0 * turn)), color))
        for turn in range(12)
    ]
    answers = ConfidenceEstimator(network, num_angles=12).answers(x)
    assert_close(answers, torch.stack(expected, 1).double(), atol=1e-3, rtol=0)
    assert (answers - answers.roll(1, 1)).abs().amax((1, 2)).min() > 0.1


def test_the_answer_of_the_copy_that_is_chosen_is_at_hand(network):
    x = _images(30, 24, 24)
    estimator = ConfidenceEstimator(network)
    with torch.no_grad():
        expected = network(RestoreTransform(estimator)(x)).double()
        as_they_come = network(x).double()
    network.seen.clear()
    answers = estimator.classify(x)
    assert sum(network.seen) == 4 * 30
    assert_close(answers, expected)
    assert not torch.allclose(answers, as_they_come)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        ("negative_entropy", lambda p, logits: (p * p.log()).sum(2)),
        ("log_largest_probability", lambda p, logits: p.amax(2).log()),
        ("negative_energy", lambda p, logits: logits.exp().sum(2).log()),
        (lambda logits: logits[..., 3], lambda p, logits: logits[:, :, 3]),
    ],
)
def test_confidences(network, confidence, expected):
    x = _images(4, 20, 20)
    estimator = ConfidenceEstimator(network, confidence=confidence)
    logits = estimator.answers(x)
    assert_close(estimator.exact_scores(x), expected(logits.softmax(2), logits))


def test_a_confidence_may_be_a_function_of_the_user(network):
    x = _images(4, 20, 20)
    estimator = ConfidenceEstimator(
        network, confidence=lambda logits: -logits.topk(2).values.diff(dim=-1).squeeze(-1)
    )
    best = estimator.answers(x).topk(2).values
    assert_close(estimator.exact_scores(x), best[..., 0] - best[..., 1])
    with pytest.raises(ValueError, match=r"^Expected `confidence` to be one of .*but got 'gap'"):
        ConfidenceEstimator(network, confidence="gap")


@pytest.mark.parametrize(
    ("wrap", "logits"),
    [
        (lambda y: {"logits": y, "loss": None}, "logits"),
        (lambda y: SimpleNamespace(logits=y), "logits"),
        (lambda y: (y, None), 0),
        (lambda y: [None, y], -1),
    ],
)
def test_models_that_return_more_than_logits(network, wrap, logits):
    class Wrapped(nn.Module):
        def forward(self, x):
            return wrap(network(x))

    x = _images(3, 20, 20)
    expected = ConfidenceEstimator(network).answers(x)
    assert_close(ConfidenceEstimator(Wrapped(), logits=logits).answers(x), expected)
    message = "^Expected `classifier` to return floating logits, or `logits` to name them in what "
    with pytest.raises(TypeError, match=message):
        ConfidenceEstimator(Wrapped()).answers(x)
    with pytest.raises(TypeError, match=message):
        ConfidenceEstimator(network, logits="scores").answers(x)


def test_the_classifier_stays_the_user_s(network):
    network.train()
    estimator = ConfidenceEstimator(network)
    restore = RestoreTransform(estimator)
    assert restore.estimator.classifier is estimator.classifier is network
    assert list(restore.state_dict()) == ["estimator.scale"]
    model = nn.Sequential(restore, network)
    assert sum(1 for _ in model.parameters()) == sum(1 for _ in network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = _images(4, 20, 20)
    scores = restore.estimator.exact_scores(x)
    assert network.training
    assert network.norm.training
    assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(ConfidenceEstimator(network.eval()).exact_scores(x), scores)
    assert not estimator(x.float()).requires_grad
    network.head.weight.data.zero_()  # trained on: what stands in front sees it
    assert not torch.equal(restore.estimator.exact_scores(x), scores)


def test_autocast_does_not_reach_it(network):
    x = _images(4, 20, 20)
    estimator = ConfidenceEstimator(network)
    with torch.autocast("cpu", torch.bfloat16):
        scores = estimator.exact_scores(x)
    assert torch.equal(scores, estimator.exact_scores(x))


def test_it_cannot_be_saved_and_says_what_to_do(network, tmp_path):
    message = re.escape("save your classifier, and build ConfidenceEstimator(classifier)")
    with pytest.raises(TypeError, match=message):
        save_estimator(ConfidenceEstimator(network), tmp_path / "e.safetensors")
    with pytest.raises(TypeError, match=message):
        RestoreTransform(ConfidenceEstimator(network)).save_pretrained(tmp_path / "folder")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_batches_go_through_in_parts(network):
    class Narrow(ConfidenceEstimator):
        pixels_at_once = 3 * 20 * 20

    x = _images(7, 20, 20)
    scores = Narrow(network).exact_scores(x)
    assert set(network.seen) == {3, 1}
    assert len(network.seen) == 4 * 3
    assert_close(scores, ConfidenceEstimator(network).exact_scores(x), atol=1e-5, rtol=1e-5)


def test_the_picture_as_it_is_comes_first(network):
    x = _images(40, 24, 24)
    estimator = ConfidenceEstimator(network)
    alone = -estimator.exact_scores(x)[:, 0]
    threshold = float(alone.median())
    network.seen.clear()
    cascade = ConfidenceEstimator(network, look_first=threshold)
    scores = cascade.exact_scores(x)
    sure = alone <= threshold
    assert 0 < sum(network.seen) - 40 == 4 * int((~sure).sum()) < 4 * 40
    assert (scores[sure, 1:] == -torch.inf).all()
    assert_close(scores[sure, 0], -alone[sure])
    assert_close(scores[~sure], estimator.exact_scores(x[~sure]))
    restore = RestoreTransform(cascade)
    assert torch.equal(restore(x)[sure], x[sure])
    assert restore.find(x).margin[sure].isinf().all()
    assert_close(cascade.classify(x)[sure], estimator.answers(x)[sure, 0])
    turned = [restore(torch.rot90(x, quarters, (2, 3))) for quarters in range(4)]
    assert not torch.equal(turned[0], turned[1])  # invariance is what it costs


def test_calibrated_scores_are_log_probabilities():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(400, 1, 12, 12, generator=generator)
    x[:, :, :6] += 0.4 * torch.rand(400, 1, 1, 1, generator=generator)  # mostly brighter above
    estimator = ConfidenceEstimator(UpFrom(), in_channels=1)
    before = RestoreTransform(estimator)(x)
    factor = calibrate(estimator, [x])
    assert 1 < factor < 20
    assert torch.equal(RestoreTransform(estimator)(x), before)
    element = QuarterTurn().draw(400, (12, 12), generator=generator)
    scores = estimator.exact_scores(QuarterTurn().apply(x, element))
    right = scores.argmax(1) == element["quarters"]
    assert abs(scores.softmax(1).amax(1).mean() - right.double().mean()) < 0.1
    kept = [
        float((RestoreTransform(estimator, prior=prior)(x) == x).flatten(1).all(1).double().mean())
        for prior in (0.5, 0.9, 0.999)
    ]
    assert kept == sorted(kept)
    assert kept[0] < kept[2]


def test_it_restores_in_front_of_its_classifier():
    x = torch.zeros(40, 1, 16, 16)
    x[:, :, :5, 4:12] = torch.rand(40, 1, 5, 8) + 0.2
    labels = torch.zeros(40, dtype=torch.int64)
    evaluation = evaluate(
        UpFrom(),
        [(x, labels)],
        restorers={"sure": RestoreTransform(ConfidenceEstimator(UpFrom(), in_channels=1))},
        motions={"turned": QuarterTurn()},
        progress=False,
    )
    assert evaluation.get("sure", "turned").measures["accuracy"] == 1.0
    assert evaluation.get("no restorer", "turned").measures["accuracy"] < 0.8


def test_empty_batches_and_images_that_are_not_finite(network):
    for options in KINDS:
        estimator = ConfidenceEstimator(network, **options)
        assert estimator.exact_scores(_images(0, 20, 20)).shape == (0, len(estimator.turns))
        x = _images(3, 20, 20).float()
        x[1, 0, 9, 9] = torch.nan
        found = RestoreTransform(estimator).find(x)
        assert all(value[1] == 0 for value in found.motion.values())


def test_rejections(network):
    with pytest.raises(TypeError, match=r"^Expected `classifier` to be a module, but got str\.$"):
        ConfidenceEstimator("resnet18")
    message = "Expected `look_first` to be at least 0, but got -0.1."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ConfidenceEstimator(network, look_first=-0.1)
    message = "Expected `classifier` to return logits of shape (batch, num_classes), but got "
    with pytest.raises(ValueError, match=re.escape(message + "(2, 3, 20, 20) for 2 images.")):
        ConfidenceEstimator(nn.Identity()).answers(_images(2, 20, 20).float())
    message = "Expected `x` to have shape (batch, 3, height, width), but got (2, 1, 20, 20)."
    for method in ("exact_scores", "answers", "classify"):
        with pytest.raises(ValueError, match=re.escape(message)):
            getattr(ConfidenceEstimator(network), method)(torch.zeros(2, 1, 20, 20))
