"""The training of `recipes/cifar10.py --scale paper`: what it shows the networks, and when."""

import math

import pytest
import torch

from eqrestore_lightning.data import ImageTensors


@pytest.fixture
def paper(load):
    return load("_paper")


def trained(paper, trainer, images):
    """Train a small network and return it, with the images that it saw."""
    module = paper.PaperClassifier(3, 10, architecture="small_cnn", learning_rate=0.01)
    seen = []

    def see(network, arguments):
        if network.training:
            seen.append(arguments[0].detach())

    module.classifier.register_forward_pre_hook(see)
    loader = ImageTensors(images, torch.zeros(len(images), dtype=torch.int64)).loader(2)
    trainer.fit(module, loader)
    return module, seen


def test_images_grow_over_the_steps_and_the_last_ones_are_whole(paper, build_trainer):
    images = torch.randint(256, (50, 3, 40, 40), dtype=torch.uint8)
    _, seen = trained(paper, build_trainer(max_epochs=1), images)
    sizes = [x.shape[-1] for x in seen]
    assert sizes == sorted(sizes)
    assert set(sizes) == set(paper.SIZES.values())


def test_the_learning_rate_rises_and_falls_to_nothing(paper):
    factors = [paper.one_cycle(step / 100) for step in range(101)]
    top = factors.index(max(factors))
    assert factors[top] == pytest.approx(1)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert math.isclose(factors[-1], 0, abs_tol=1e-12)


def test_nothing_is_translated(paper, build_trainer):
    images = torch.zeros(50, 3, 40, 40, dtype=torch.uint8)
    images[:, :, 10:14, 6:30] = 255
    module, seen = trained(paper, build_trainer(max_epochs=1), images)
    whole = torch.cat([x for x in seen if x.shape[-1] == 40])
    expected = images[0] / 255
    for image in whole:
        hole = (image == 0.5).all(0)
        fits = [((image == x) | hole).all() for x in (expected, expected.flip(2))]
        assert any(fits)
        assert hole.sum() == 64
    assert not ((whole[0] == expected.roll(1, 2)) | (whole[0] == 0.5)).all()  # would be noticed
    assert module.motion.max_shift == 0


@pytest.mark.parametrize("size", [16, 24, 32])
def test_reduced_images_lose_their_border_first(paper, size):
    images = torch.zeros(2, 3, 40, 40)
    images[:, :, 4:36, 4:36] = 0.25
    assert torch.allclose(paper.reduced(images, size), torch.full((2, 3, size, size), 0.25))
    assert paper.reduced(images, 40) is images


def test_every_network_of_the_paper_takes_the_first_and_smallest_images(paper):
    for architecture in paper.PAPER_TABLE_2:
        module = paper.PaperClassifier(3, 10, architecture=architecture).eval()
        size = max(module.smallest, min(paper.SIZES.values()))
        assert module(torch.zeros(1, 3, size, size)).shape == (1, 10)
        if module.smallest:
            with pytest.raises(RuntimeError, match="too small"):
                module(torch.zeros(1, 3, size // 2, size // 2))
