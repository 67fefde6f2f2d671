"""A restorer that stands behind `Normalize` says so, once; one that does not says nothing."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from eqrestore_lightning import (
    CIFAR10DataModule,
    DigitsDataModule,
    MNISTDataModule,
    RestoreTransform,
    TranslationEstimator,
)
from eqrestore_lightning.functional import lowest_level
from eqrestore_lightning.nn import ProfileEstimator, SeamRule
from eqrestore_lightning.transforms._placement import _LOW

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SAYS = (
    r"^Expected images without negative values, as those that the weights were trained on, but "
    r"got values far below 0, as behind `Normalize`: put the restorer before it, or what it finds "
    r"may be wrong\.$"
)


@pytest.fixture(scope="module")
def digits():
    images, _ = next(iter(DigitsDataModule(batch_size=64).test_dataloader()))
    return images


def _photographs(count=64):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    return nn.functional.interpolate(coarse, (32, 32), mode="bilinear")


def _estimator(level, size=(12, 14)):
    estimator = TranslationEstimator(1, size, kernel_size=3, hidden_channels=[2])
    estimator.lowest_level = level
    return estimator


def _run(restore, *images):
    for x in images:
        restore(x)


def _quiet(restore, *images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _run(restore, *images)
        _run(restore.find, *images)


@pytest.mark.parametrize("name", ["digits", "mnist", "mnist-rotation"])
@pytest.mark.parametrize("mean", [0.1307, 0.3, 0.5])
def test_normalized_digits(name, mean, digits):
    restore = RestoreTransform(name)
    behind = v2.Compose([v2.Normalize([mean], [0.3081]), restore])
    with pytest.warns(UserWarning, match=SAYS) as said:
        _run(behind, digits, digits)
    assert len(said) == 1
    _quiet(restore, v2.functional.normalize(digits, [mean], [0.3]))  # it has been said
    with pytest.warns(UserWarning, match=SAYS):  # each transform says it
        RestoreTransform(name).find(v2.functional.normalize(digits, [mean], [0.3081]))


@pytest.mark.parametrize("name", ["photo", "photo-upright", "cifar10-unpadded"])
@pytest.mark.parametrize("statistics", [IMAGENET, ([0.5] * 3, [0.5] * 3)])
def test_normalized_photographs(name, statistics):
    behind = nn.Sequential(v2.Normalize(*statistics), RestoreTransform(name))
    with pytest.warns(UserWarning, match=SAYS):
        behind(_photographs())


def test_single_images_in_a_pipeline(digits):
    restore = RestoreTransform("digits")
    normalize = v2.Normalize([0.5], [0.5])
    with pytest.warns(UserWarning, match=SAYS) as said:
        _run(restore, *map(tv_tensors.Image, normalize(digits)))
    assert len(said) == 1


RIGHT = {  # images that stand where they should
    "uint8": lambda x: (x * 255).byte(),
    "0…1": lambda x: x,
    "0…255": lambda x: 255 * x,
    "int32": lambda x: (x * 255).int(),
    "float16": lambda x: (60_000 * x).half(),
    "bfloat16": lambda x: x.bfloat16(),
    "float64": lambda x: x.double(),
    "bool": lambda x: x > 0.5,
    "a little noise": lambda x: x + 0.1 * torch.randn_like(x),
    "overshoot": lambda x: nn.functional.interpolate(
        x[..., ::2, ::2], tuple(x.shape[2:]), mode="bicubic"
    ),
    "one by one": lambda x: x[0],
    "blank": lambda x: torch.zeros_like(x),
    "none": lambda x: x[:0],
    "not finite": lambda x: x.masked_fill(x == 0, -torch.inf),
    "not a number": lambda x: x * torch.nan,
}


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm(name, digits):
    _quiet(RestoreTransform("digits"), RIGHT[name](digits))
    _quiet(RestoreTransform("photo"), RIGHT[name](_photographs(8)))


def test_signals_and_volumes_that_may_be_negative():
    for size in ((50,), (5, 6, 7), (12, 14)):
        x = torch.randn(8, 1, *size)
        signed = _estimator(float(lowest_level(x)), size)
        _quiet(RestoreTransform(signed), x, 100 * x - 50, -x.abs(), x[:1])
        _quiet(RestoreTransform(_estimator(None, size)), x)
    with pytest.warns(UserWarning, match=SAYS):  # the negative control
        RestoreTransform("mnist3d")(torch.rand(2, 1, 32, 32, 32) - 0.5)


def test_rules_were_not_trained_and_say_nothing():
    _quiet(RestoreTransform(SeamRule(3)), v2.functional.normalize(_photographs(), *IMAGENET))


def test_only_the_first_calls_look(digits):
    restore = RestoreTransform("digits")
    for _ in range(10):
        restore(digits)
    _quiet(restore, digits - 0.5)


def test_how_low_is_too_low():
    bands = torch.ones(1, 1, 16, 16)
    bands[:, :, :8] = -0.2
    _quiet(RestoreTransform(_estimator(0.0, (16, 16))), bands)
    bands[:, :, :8] = -0.3
    _quiet(RestoreTransform(_estimator(-0.2, (16, 16))), bands)
    with pytest.warns(UserWarning, match=SAYS):
        RestoreTransform(_estimator(-0.05, (16, 16)))(bands)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_say_it_too(copied, digits):
    twin = copied(RestoreTransform("digits"))
    with pytest.warns(UserWarning, match=SAYS):
        twin(digits - 0.5)


def test_graphs_hold_no_check():
    restore = RestoreTransform(_estimator(0.0))
    x = torch.rand(4, 1, 12, 14) - 0.5
    unknown = copy.deepcopy(restore)
    unknown.estimator.lowest_level = None
    expected = unknown(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = torch.compile(restore, fullgraph=True, backend="eager")
        assert torch.equal(compiled(x), expected)
        exported = torch.export.export(restore, (x,)).module()
        assert torch.equal(exported(x), expected)
    with pytest.warns(UserWarning, match=SAYS):
        restore(x)


def test_vmap_is_not_looked_into():
    estimator = ProfileEstimator(1, channels=4, features=6, profile_channels=5)
    estimator.lowest_level = 0.0
    restore = RestoreTransform(estimator)
    x = torch.rand(3, 1, 16, 18) - 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = torch.func.vmap(restore)(x)
    with pytest.warns(UserWarning, match=SAYS):
        assert torch.equal(mapped, restore(x))


def _share_below(images, batch_size):
    levels = torch.stack([lowest_level(batch) for batch in images.split(batch_size)])
    return (levels < _LOW).double().mean().item()


def test_levels_of_digits(mnist_root):
    images = MNISTDataModule(mnist_root).dataset("test").images[:4800].float() / 255
    normalized = v2.functional.normalize(images, [0.1307], [0.3081])
    noisy = images + 0.1 * torch.randn_like(images)
    assert _share_below(normalized, 1) == _share_below(normalized, 16) == 1
    assert _share_below(noisy, 1) < 0.02
    assert _share_below(noisy, 16) == _share_below(images, 1) == 0


@pytest.mark.slow  # the archive of CIFAR-10 is read
def test_levels_of_photographs(cifar10_root):
    images = CIFAR10DataModule(cifar10_root, padding=0).dataset("test").images[:4800] / 255
    normalized = v2.functional.normalize(images, *IMAGENET)
    noisy = images + 0.1 * torch.randn_like(images)
    assert _share_below(normalized, 1) > 0.8
    assert _share_below(normalized, 16) == 1
    assert _share_below(noisy, 1) == _share_below(noisy, 16) == 0
