import pytest
import torch

from eqrestore_lightning import (
    DigitsDataModule,
    MNISTDataModule,
    RestoreTransform,
    bundled_weights,
    load_estimator,
)


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_weights_say_how_they_were_made(name):
    notes = bundled_weights()[name]
    assert notes["recipe"] == f"recipes/{name}.py"
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
