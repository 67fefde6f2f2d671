import copy
import re

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift
from eqrestore_lightning.nn import TranslationEstimator
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights import save_estimator

SIZE = (12, 14)


@pytest.fixture
def estimator():
    return TranslationEstimator(3, SIZE, kernel_size=3, hidden_channels=[2, 2])


@pytest.fixture
def restore(estimator):
    return RestoreTransform(estimator)


def _images(*batch, dtype=torch.uint8):
    x = torch.randint(0, 256, (*batch, 3, *SIZE), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x.to(dtype) / 255


def _scores(restore, x):
    return restore.find(x, scores=True).scores


def _shift(restore, x):
    return restore.find(x).motion["shift"]


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16]
)
def test_every_shift_is_restored_to_the_same_image(restore, dtype):
    x = _images(1, dtype=dtype)
    reference = restore(x)
    places = torch.cartesian_prod(*map(torch.arange, SIZE))
    moved = circular_shift(x.expand(len(places), *x.shape[1:]), places)
    restored = restore(moved)
    assert restored.dtype == dtype
    assert torch.equal(restored, reference.expand_as(restored))
    assert torch.equal(restored.flatten().sort().values, moved.flatten().sort().values)


def test_find_tells_the_shift_that_the_image_is_moved_back_by(restore):
    x = _images(5)
    shift = restore.find(x).motion["shift"]
    assert shift.dtype == torch.int64
    assert torch.equal(restore(x), circular_shift(x, -shift))
    applied = random_shift(5, 6)
    after = restore.find(circular_shift(x, applied)).motion["shift"]
    assert torch.equal((after - shift - applied) % torch.tensor(SIZE), torch.zeros(5, 2).long())


def test_scores_and_margin_follow_the_image(restore):
    x = _images(5)
    found = restore.find(x, scores=True)
    shift = random_shift(5, 6)
    moved = restore.find(circular_shift(x, shift), scores=True)
    assert found.scores.shape == (5, *SIZE)
    assert found.scores.dtype == found.margin.dtype == torch.float64
    followed = circular_shift(found.scores.unsqueeze(1), shift).squeeze(1)
    assert torch.equal(moved.scores, followed)
    assert torch.equal(moved.margin, found.margin)
    assert (found.margin > 0).all()
    assert found.trusted.all()
    best, second = found.scores.flatten(1).topk(2).values.T
    assert torch.equal(found.margin, best - second)
    assert restore.find(torch.zeros(2, 3, *SIZE)).margin.tolist() == [0, 0]
    assert restore.find(x).scores is None


def test_what_cannot_be_moved_is_refused(restore):
    for dtype in (torch.complex64, torch.float8_e4m3fn):
        message = (
            f"Expected images of a real dtype, of 16 bits or more if floating, but got {dtype}."
        )
        with pytest.raises(TypeError, match=re.escape(message)):
            restore(torch.zeros(3, *SIZE, dtype=dtype))
    with pytest.raises(ValueError, match="Expected images with values, but got some on the device"):
        restore(torch.zeros(3, *SIZE, device="meta"))
    for shape in ((2, 3, 12, 13), (2, 1, 12, 14), (12, 14), (14,), (2, 3, 0, 14), (2, 0, 12, 14)):
        found = (1, *shape) if len(shape) == 3 else shape
        message = f"Expected `x` to have shape (batch, 3, 12, 14), but got {found}."
        with pytest.raises(ValueError, match=re.escape(message)):
            restore(torch.zeros(shape))


def test_negative_zeros_are_restored_to_equal_values_not_to_equal_bits(restore):
    x = torch.zeros(1, 3, *SIZE)
    x[0, 0, 3, 4] = -0.0
    assert not x.any()
    moved = x.roll((2, 5), (2, 3))
    restored, expected = restore(moved), restore(x)
    assert torch.equal(restored, expected)
    assert not torch.equal(restored.signbit(), expected.signbit())
    x[0, 0, 7, 8] = 1.0  # anything else that shows where the image lies
    moved = x.roll((2, 5), (2, 3))
    assert torch.equal(restore(moved).signbit(), restore(x).signbit())


def test_weights_are_out_of_reach_of_training(restore, estimator):
    classifier = nn.Sequential(restore, nn.Flatten(), nn.Linear(3 * 12 * 14, 5))
    assert len(list(classifier.parameters())) == 2
    classifier.train()
    assert not any(module.training for module in restore.modules())
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1.0, weight_decay=1.0)
    before = copy.deepcopy(restore.state_dict())
    classifier(_images(4, dtype=torch.float32)).sum().backward()
    optimizer.step()
    assert restore.state_dict().keys() == before.keys()
    for name, value in restore.state_dict().items():
        assert torch.equal(value, before[name])
    assert estimator.training  # the one given is copied, not changed
    assert all(parameter.requires_grad for parameter in estimator.parameters())


def test_gradients_reach_the_image(restore):
    x = _images(2, dtype=torch.float32).requires_grad_()
    weight = torch.rand(2, 3, *SIZE)
    (restore(x) * weight).sum().backward()
    assert torch.equal(x.grad, circular_shift(weight, restore.find(x).motion["shift"]))


def test_uint8_and_float_images_are_restored_alike(restore):
    x = _images(8)
    assert torch.equal(_shift(restore, x), _shift(restore, x.float()))
    assert torch.equal(_shift(restore, x), _shift(restore, v2.functional.to_dtype(
        x, torch.float32, scale=True
    )))  # fmt: skip


def test_it_compiles_as_one_graph(restore):
    x = _images(4)
    compiled = torch.compile(restore, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), restore(x))


def test_sources(estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    save_estimator(estimator, path)
    x = _images(3)
    expected = RestoreTransform(estimator)(x)
    assert torch.equal(RestoreTransform(path)(x), expected)
    assert torch.equal(RestoreTransform(str(path))(x), expected)
    with pytest.raises(TypeError, match="Expected `source` to be a name, a path or an estimator"):
        RestoreTransform(3)
    with pytest.raises(FileNotFoundError, match="Expected a file of weights, but found none at"):
        RestoreTransform(tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match="Expected `min_margin` to be at least 0, but got nan"):
        RestoreTransform(estimator, min_margin=float("nan"))


def test_a_state_is_loaded_by_a_twin(restore, tmp_path):
    x = _images(3)
    torch.save(restore.state_dict(), tmp_path / "state.pt")
    twin = RestoreTransform(TranslationEstimator(3, SIZE, kernel_size=3, hidden_channels=[2, 2]))
    assert not torch.equal(twin(x), restore(x))
    twin.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(twin(x), restore(x))


def test_decide_is_find_for_scores_that_are_known():
    restore = RestoreTransform("digits", min_margin=2.0, prior=0.5)
    x = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    found, decided = restore.find(x), restore.decide(x, restore.estimator.exact_scores(x))
    assert torch.equal(decided.motion["shift"], found.motion["shift"])
    assert torch.equal(decided.margin, found.margin)
    assert torch.equal(decided.trusted, found.trusted)
    with pytest.raises(
        ValueError, match=r"Expected a batch of images, but got shape \(1, 32, 32\)"
    ):
        restore.decide(x[0], restore.estimator.exact_scores(x[:1]))
