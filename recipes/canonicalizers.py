"""A `RotationEstimator` beside equiadapt's C8 canonicalizer, in front of one classifier of digits.

Both are trained for the same time on the same cores, on MNIST's digits with their center of mass
moved to the middle, as in `rotated_mnist.py`. equiadapt's network is that of its own examples; it
learns from upright digits that they are upright, and from turned ones through the frozen
classifier.

    pip install equiadapt
    python recipes/canonicalizers.py --data data --minutes 10
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from _data import CenteredMNIST, spread
from _run import DATA, Run, command_line
from rotated_mnist import NETWORKS
from torch import Tensor, nn

from eqrestore_lightning import Turn, evaluate
from eqrestore_lightning.evaluation import turn_motions

_ROTATIONS = 8
_PRIOR_WEIGHT = 100.0  # of the loss that says upright images are upright, as in its examples


def main(
    data: Path = DATA,
    output: Path = Path("outputs/canonicalizers"),
    classifier_epochs: int = 8,
    minutes: float = 10.0,
    channels: int = 16,
    num_images: int = 2_000,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw; by default EQRESTORE_DATA, or data.
        output: Folder for tables and W&B's files.
        classifier_epochs: Epochs of the classifier.
        minutes: How long each of the two is trained.
        channels: Channels of equiadapt's network; its examples have 32, which trains half as far in
            the same time.
        num_images: How many of the test images to evaluate on.
        seed: Seed of everything random.
    """
    run = Run("canonicalizers", output, seed=seed, config={"minutes": minutes})
    source = CenteredMNIST(data, seed=seed)
    source.setup()
    classifier = run.fit_classifier("classifier", source, epochs=classifier_epochs).eval()
    classifier.requires_grad_(False)
    restore = run.fit_restorer("rotation", source, minutes=minutes, **NETWORKS["rotation"])
    canonicalize = train_equiadapt(classifier, source, minutes, channels, seed)
    test = spread(source.dataset("test"), num_images)
    evaluation = evaluate(
        classifier,
        test.loader(500),
        restorers={"RotationEstimator": restore, "equiadapt, C8": canonicalize},
        motions=turn_motions([0]),
        axis="angle (degrees)",
        seed=seed,
    )
    run.add_evaluation(f"trained for {minutes:g} minutes each", evaluation)
    run.close()


def train_equiadapt(
    classifier: nn.Module, source: CenteredMNIST, minutes: float, channels: int, seed: int
) -> Callable[[Tensor], Tensor]:
    """Train equiadapt's canonicalizer, and return what it makes of images."""
    from equiadapt.images.canonicalization.discrete_group import (
        GroupEquivariantImageCanonicalization,
    )
    from equiadapt.images.canonicalization_networks.escnn_networks import ESCNNEquivariantNetwork
    from omegaconf import OmegaConf

    L.seed_everything(seed, verbose=False)
    network = ESCNNEquivariantNetwork((1, 32, 32), channels, 5, "rotation", _ROTATIONS, 3)
    settings = OmegaConf.create({"beta": 1.0, "input_crop_ratio": 1.0, "resize_shape": 32})
    canonicalizer: Any = GroupEquivariantImageCanonicalization(network, settings, (1, 32, 32))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    images, labels = (getattr(source.dataset("train"), name) for name in ("images", "labels"))
    end, generator = time.perf_counter() + 60 * minutes, torch.Generator().manual_seed(seed)
    while (left := (end - time.perf_counter()) / (60 * minutes)) > 0:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * left
        chosen = torch.randint(len(images), (128,), generator=generator)
        x = images[chosen].float() / 255
        turned = Turn().apply(x, Turn().draw(len(x), (32, 32), generator=generator))
        loss = F.cross_entropy(classifier(canonicalizer(turned)), labels[chosen])
        canonicalizer(x)
        loss = loss + _PRIOR_WEIGHT * canonicalizer.get_prior_regularization_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    canonicalizer.eval()

    def canonicalize(x: Tensor) -> Tensor:
        restored: Tensor = canonicalizer(x)
        return restored

    return canonicalize


if __name__ == "__main__":
    command_line(main)
