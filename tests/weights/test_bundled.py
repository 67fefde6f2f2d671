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
    random_shift,
    rotate,
)
from eqrestore_lightning.functional import angle_error

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_weights_say_how_they_were_made(name):
    notes = bundled_weights()[name]
    assert (ROOT / notes["recipe"]).is_file()
    assert notes["recipe"] in notes["command"]
    assert f"--seed {notes['seed']}" in notes["command"]
    assert notes["hardware"]
    assert notes["versions"]["torch"]
    estimator = load_estimator(name)
    assert sum(parameter.numel() for parameter in estimator.parameters()) == notes["weights"]


def _exact(name, data):
    restore = RestoreTransform(name)
    images = data.dataset("test").images
    shift = torch.cat([restore.estimate(part) for part in images.split(500)])
    return (shift == 0).all(1).double().mean().item()


def test_digits_restores_as_much_as_it_says():
    exact = _exact("digits", DigitsDataModule())
    assert exact == pytest.approx(bundled_weights()["digits"]["metrics"]["exact"], abs=1e-9)
    assert exact > 0.98


def test_mnist_restores_as_much_as_it_says(mnist_root):
    exact = _exact("mnist", MNISTDataModule(mnist_root))
    assert exact == pytest.approx(bundled_weights()["mnist"]["metrics"]["exact"], abs=1e-9)
    assert exact >= 0.995


def test_volumes_are_restored_as_often_as_it_says(mnist_root):
    images = MNIST3DDataModule(mnist_root).dataset("test").images[:200]
    restore = RestoreTransform("mnist3d")
    shift = random_shift(200, 16, num_spatial_dims=3)
    exact = (restore.estimate(circular_shift(images, shift)) - shift) % 32 == 0
    assert exact.all(1).double().mean() >= 0.98
    assert bundled_weights()["mnist3d"]["metrics"]["exact"] >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "padding", "least"), [("cifar10", 4, 0.999), ("cifar10-unpadded", 0, 0.98)]
)
def test_cifar_10_is_restored_as_often_as_it_says(mnist_root, name, padding, least):
    exact = _exact(name, CIFAR10DataModule(mnist_root, padding=padding))
    assert exact == pytest.approx(bundled_weights()[name]["metrics"]["exact"], abs=1e-9)
    assert exact >= least


def test_mnist_rotation_finds_angles_and_is_the_same_for_quarter_turns(mnist_root):
    restore = RestoreTransform("mnist-rotation")
    images = MNISTDataModule(mnist_root).dataset("test").images[:500]
    angle = 360 * torch.rand(500)
    error = angle_error(restore.estimate(rotate(images, angle))[:, 0], angle.double())
    assert error.median() < 3
    assert (error > 30).double().mean() < 0.03
    for quarters in (1, 2, 3):
        assert torch.equal(restore(torch.rot90(images, quarters, (2, 3))), restore(images))


def test_mnist_roto_translation_finds_both_and_is_the_same_for_every_shift(mnist_root):
    restore = RestoreTransform("mnist-roto-translation")
    images = MNISTDataModule(mnist_root).dataset("test").images[:500]
    angle, shift = 360 * torch.rand(500), random_shift(500, 16)
    turned = rotate(images, angle)
    found = restore.estimate(circular_shift(turned, shift))
    off = (found[:, :2].long() - shift + 16) % 32 - 16
    assert (off.abs().amax(1) <= 1).double().mean() > 0.98
    assert angle_error(found[:, 2], angle.double()).median() < 4
    assert torch.equal(restore(circular_shift(turned, shift)), restore(turned))
