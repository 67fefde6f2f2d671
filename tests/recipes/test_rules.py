"""Rules find what they are made for; data sets made from others are what they say."""

import pytest
import torch

from eqrestore_lightning import MNISTDataModule, RestoreTransform, circular_shift, evaluate
from eqrestore_lightning.evaluation import shift_motions, shifts_found
from eqrestore_lightning.evaluation._rules import first_harmonic_phase
from eqrestore_lightning.functional import random_shift, scores_to_shift


@pytest.fixture
def rules(load):
    return load("_rules")


def test_the_rule_restores_all_of_mnist(mnist_root, rules):
    images = MNISTDataModule(mnist_root).dataset("test").images
    rule = rules.centre_of_mass()
    find = RestoreTransform(rule).find
    shift = torch.cat([find(part).motion["shift"] for part in images.split(1000)])
    assert (shift != 0).any(1).sum() <= 1  # one center lies on the edge of the window, to 16 bits
    with torch.no_grad():
        scores = torch.cat([rule.double()(part.double()) for part in images.split(1000)])
    assert scores_to_shift(scores).count_nonzero() == 0
    phase = first_harmonic_phase(images)
    assert 0.52 < (phase == 0).all(1).double().mean() < 0.54


def test_a_blank_border_is_found_on_any_number_of_axes(rules):
    for size in ((12,), (12, 15), (9, 10, 11)):
        images = torch.zeros(6, 3, *size, dtype=torch.uint8)
        inner = images[(slice(None), slice(None), *[slice(2, -2)] * len(size))]
        inner.copy_(torch.randint(1, 256, inner.shape))
        find = RestoreTransform(rules.blank_border(3, size, 2)).find
        shift = random_shift(6, 4, num_spatial_dims=len(size))
        assert torch.equal(find(circular_shift(images, shift)).motion["shift"], shift)
        filled = torch.randint(1, 256, images.shape, dtype=torch.uint8)  # no border: no answer
        assert (find(filled).motion["shift"] != 0).any()


def test_rules_and_restorers_are_used_alike(rules, made_mnist):
    test = MNISTDataModule(made_mnist).dataset("test")
    restorers = rules.digit_rules()
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 10))
    evaluation = evaluate(
        classifier,
        test.loader(30),
        restorers=restorers,
        motions=shift_motions([0, 5]),
        progress=False,
    )
    for name, restorer in restorers.items():
        assert evaluation.get(name, "5").measures["consistency"] == 1
        assert 0 <= shifts_found(test, restorer)["exact, %"] <= 100


def test_mirrored_digits_keep_their_center_of_mass(rules, load, made_mnist):
    data = load("_data")
    images = MNISTDataModule(made_mnist).dataset("test").images[:20]
    module = data.MirroredMNIST(made_mnist)
    window = RestoreTransform(rules.centre_of_mass())
    inside = window.find(images).motion["shift"].abs().sum(1) == 0
    seen = set()
    for seed in range(12):
        mirrored = module.augment(images, torch.Generator().manual_seed(seed))
        seen.add(mirrored.numpy().tobytes())
        again = window.find(mirrored).motion["shift"].abs().sum(1) == 0
        assert torch.equal(again, inside)
    assert len(seen) > 4


def test_data_modules_augment_training_batches_only(load, made_mnist):
    module = load("_data").MirroredMNIST(made_mnist)
    batch = module.dataset("test")[torch.arange(8)]
    assert module.on_after_batch_transfer(batch, 0) is batch


def test_noise_covers_the_border_and_is_the_same_each_time(load, made_mnist):
    first, second = (load("_data").NoisyMNIST(made_mnist).dataset("test") for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert (first.images[:, :, 0] > 0).double().mean() > 0.3
