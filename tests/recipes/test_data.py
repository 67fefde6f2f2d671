"""Rules find what they are made for; data sets made from others, and crops, are what they say."""

import pytest
import torch

from eqrestore_lightning import MNISTDataModule, RestoreTransform, evaluate
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.evaluation._found import shifts_found
from eqrestore_lightning.evaluation._rules import first_harmonic_phase
from eqrestore_lightning.functional._shift import scores_to_shift


@pytest.fixture
def mnist(load):
    return load("mnist")


def test_the_rule_restores_all_of_mnist(mnist_root, mnist):
    images = MNISTDataModule(mnist_root).dataset("test").images
    rule = mnist.center_of_mass()
    find = RestoreTransform(rule).find
    shift = torch.cat([find(part).motion["shift"] for part in images.split(1000)])
    assert (shift != 0).any(1).sum() <= 1  # one center lies on the edge of the window, to 16 bits
    with torch.no_grad():
        scores = torch.cat([rule.double()(part.double()) for part in images.split(1000)])
    assert scores_to_shift(scores).count_nonzero() == 0
    phase = first_harmonic_phase(images)
    assert 0.52 < (phase == 0).all(1).double().mean() < 0.54


def test_rules_and_restorers_are_used_alike(mnist, made_mnist):
    test = MNISTDataModule(made_mnist).dataset("test")
    restorers = mnist.digit_rules()
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


def test_mirrored_digits_keep_their_center_of_mass(mnist, load, made_mnist):
    data = load("_data")
    images = MNISTDataModule(made_mnist).dataset("test").images[:20]
    module = data.MirroredMNIST(made_mnist)
    window = RestoreTransform(mnist.center_of_mass())
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


def test_photographs_are_read_at_their_own_size_and_cropped_in_turns(load):
    data = load("_data")
    photographs = data.load_photographs("test")
    assert photographs["chelsea"].shape == (3, 300, 451)
    crops = data.random_crops(photographs, 8, (64, 90), seed=0)
    assert crops.shape == (8, 3, 64, 90)
    assert torch.equal(crops, data.random_crops(photographs, 8, (64, 90), seed=0))
    windows = photographs["chelsea"].unfold(1, 64, 1).unfold(2, 90, 1)[0]
    assert (windows == crops[0, 0]).all(-1).all(-1).any()
    with pytest.raises(ValueError, match="Expected photographs of at least"):
        data.random_crops(photographs, 1, (3_000, 9), seed=0)


def test_photographs_of_any_size_are_drawn_and_measured(load, tmp_path):
    photo = load("photo")
    paths = list(load("_data").find_photographs("train").values())[:3]
    small = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    batches = iter(photo.Batches(small, paths, seed=0))
    sizes = set()
    for _ in range(12):
        x = next(batches)
        assert x.dtype == torch.float32
        assert x.shape[1] == 3
        assert torch.equal(x, x.round().clamp(0, 255))
        sizes.add(tuple(x.shape[2:]))
    assert len(sizes) > 3
    assert photo.exact_share(lambda x: x, small) < 10
    assert photo.exact_share(RestoreTransform("photo"), small[:5]) <= 100
