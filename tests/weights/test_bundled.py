from pathlib import Path

import pytest
import torch

from eqrestore_lightning import (
    CIFAR10DataModule,
    DigitsDataModule,
    MNIST3DDataModule,
    MNISTDataModule,
    RestoreTransform,
    bundled_weights,
    circular_shift,
    load_estimator,
    rotate,
)
from eqrestore_lightning.functional._errors import circular_error
from eqrestore_lightning.functional._shift import random_shift

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_weights_say_how_they_were_made(name):
    notes = bundled_weights()[name]
    assert (ROOT / notes["recipe"]).is_file()
    assert notes["recipe"] in notes["command"]
    assert isinstance(notes["seed"], int)
    assert notes["hardware"]
    assert notes["versions"]["torch"]
    estimator = load_estimator(name)
    assert sum(tensor.numel() for tensor in estimator.state_dict().values()) == notes["weights"]


def _exact(name, data):
    restore = RestoreTransform(name)
    images = data.dataset("test").images
    shift = torch.cat([restore.find(part).motion["shift"] for part in images.split(500)])
    return (shift == 0).all(1).double().mean().item()


def test_digits_restores_as_much_as_it_says():
    exact = _exact("digits", DigitsDataModule())
    assert exact == pytest.approx(bundled_weights()["digits"]["metrics"]["exact"], abs=1e-6)
    assert exact > 0.98


def test_mnist_restores_as_much_as_it_says(mnist_root):
    exact = _exact("mnist", MNISTDataModule(mnist_root))
    assert exact == pytest.approx(bundled_weights()["mnist"]["metrics"]["exact"], abs=1e-6)
    assert exact >= 0.995


def test_volumes_are_restored_as_often_as_it_says(mnist_root):
    images = MNIST3DDataModule(mnist_root).dataset("test").images[:200]
    restore = RestoreTransform("mnist3d")
    shift = random_shift(200, 16, num_spatial_dims=3)
    found = restore.find(circular_shift(images, shift)).motion["shift"]
    exact = (found - shift) % 32 == 0
    assert exact.all(1).double().mean() >= 0.98
    assert bundled_weights()["mnist3d"]["metrics"]["exact"] >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "padding", "least"),
    [("cifar10", 4, 0.999), ("cifar10-unpadded", 0, 0.98), ("photo", 0, 0.98)],
)
def test_cifar_10_is_restored_as_often_as_it_says(mnist_root, name, padding, least):
    exact = _exact(name, CIFAR10DataModule(mnist_root, padding=padding))
    assert exact == pytest.approx(bundled_weights()[name]["metrics"]["exact"], abs=1e-6)
    assert exact >= least


def test_mnist_rotation_finds_angles_and_is_the_same_for_quarter_turns(mnist_root):
    restore = RestoreTransform("mnist-rotation")
    images = MNISTDataModule(mnist_root).dataset("test").images[:500]
    angle = 360 * torch.rand(500)
    found = restore.find(rotate(images, angle)).motion["angle"]
    error = circular_error(found, angle.double(), (360,))
    assert error.median() < 5
    assert (error > 30).double().mean() < 0.16  # a third are ones, upside down
    for quarters in (1, 2, 3):
        assert torch.equal(restore(torch.rot90(images, quarters, (2, 3))), restore(images))


def test_mnist_roto_translation_finds_both_and_is_the_same_for_every_shift(mnist_root):
    restore = RestoreTransform("mnist-roto-translation")
    images = MNISTDataModule(mnist_root).dataset("test").images[:500]
    angle, shift = 360 * torch.rand(500), random_shift(500, 16)
    turned = rotate(images, angle)
    found = restore.find(circular_shift(turned, shift)).motion
    off = circular_error(found["shift"], shift, (32, 32))
    assert (off.amax(1) <= 1).double().mean() > 0.98
    assert circular_error(found["angle"], angle.double(), (360,)).median() < 5
    assert torch.equal(restore(circular_shift(turned, shift)), restore(turned))


@pytest.fixture(scope="module")
def photographs(cifar10_root):
    """Return the test images of CIFAR-10; reading all of them takes time."""
    return CIFAR10DataModule(cifar10_root, padding=0).dataset("test").images


def test_cifar10_upright_finds_quarter_turns_of_any_size(photographs):
    restore = RestoreTransform("cifar10-upright")
    images = photographs[::20]
    found = restore.find(torch.rot90(images, 1, (2, 3))).motion["quarters"]
    assert (found == 1).double().mean() > 0.8
    large = torch.nn.functional.interpolate(images[::4].float(), scale_factor=3).byte()
    turned = restore.find(torch.rot90(large, 3, (2, 3))).motion["quarters"]
    assert (turned == 3).double().mean() > 0.75
    for quarters in (1, 2, 3):
        assert torch.equal(restore(torch.rot90(images, quarters, (2, 3))), restore(images))
    careful = RestoreTransform("cifar10-upright", prior=0.95, min_margin=2)
    assert (careful.find(images).motion["quarters"] != 0).double().mean() <= 0.006
