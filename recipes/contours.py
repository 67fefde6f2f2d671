"""Restore the starting point of closed contours: 1-D signals that wrap around.

The outline of an MNIST digit, as the distance from its center at 128 places along it, starts where
the algorithm that traced it began: a 1-D classifier learns it that way and fails for any other
starting point. An estimator for signals finds the starting point and moves it back.

    lightning run recipes/contours.py --data data

The untrained rule starts every contour at the place farthest from its center.
"""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from _run import DATA, Run, command_line
from torch import Tensor, nn

from eqrestore_lightning import MNISTDataModule, RestorerModule, RestoreTransform, evaluate
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.evaluation._found import shifts_found
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.nn import TranslationEstimator

LENGTH = 128
NETWORK: dict[str, Any] = {
    "hidden_channels": [16] * 5,
    "kernel_size": [9, 9, 9, 9, 9, 1],
    "dilation": [1, 2, 4, 8, 1, 1],
    "bias": True,
    "skip": True,
}


def main(
    data: Path = DATA,
    output: Path = Path("outputs/contours"),
    images: int = 20_000,
    test_images: int = 10_000,
    epochs: int = 6,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw.
        output: Folder for tables, pictures and W&B's files.
        images: Training digits.
        test_images: Test digits.
        epochs: Passes over the training contours, of classifier and estimator.
        seed: Seed of everything random.
    """
    run = Run("contours", output, seed=seed, config={"network": NETWORK, "epochs": epochs})
    source = MNISTDataModule(data, seed=seed)
    train = contours(source.dataset("train"), images)
    test = contours(source.dataset("test"), test_images)
    L.seed_everything(seed, verbose=False)
    classifier = train_classifier(train, epochs)
    estimator = TranslationEstimator(1, (LENGTH,), **NETWORK)
    L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=output,
    ).fit(RestorerModule(estimator, learning_rate=3e-3, seed=seed), train.loader(128, shuffle=True))
    restore = RestoreTransform(estimator)
    run.add_table("starting points found", [shifts_found(test, restore)])
    evaluation = evaluate(
        classifier,
        test.loader(500),
        restorers={"restored": restore, "rule: farthest place": start_farthest},
        motions=shift_motions((0, 4, 16, 64), axes=(-1,)),
        axis="starting point off by up to, of 128 places",
        seed=seed,
    )
    run.add_evaluation("accuracy", evaluation, picture="accuracy.png")
    run.close()


def contours(digits: ImageTensors, count: int) -> ImageTensors:
    """Trace the longest outline of each digit: uint8 of shape `(count, 1, 128)`."""
    from skimage.measure import find_contours

    signals, labels = [], []
    for image, label in zip(digits.images[:count], digits.labels[:count], strict=True):
        outlines = find_contours(image[0].numpy().astype(float), 127.5)
        if outlines:
            signals.append(_radii(max(outlines, key=len)))
            labels.append(label)
    return ImageTensors(torch.stack(signals).unsqueeze(1), torch.stack(labels))


def _radii(outline: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
    """Return the distance from the center at equal steps along a closed outline, 0…255."""
    steps = np.linalg.norm(np.diff(outline, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.arange(LENGTH) * along[-1] / LENGTH
    points = np.stack([np.interp(places, along, outline[:, axis]) for axis in (0, 1)])
    radius = np.hypot(*(points - points.mean(1, keepdims=True)))
    return torch.from_numpy(np.round(255 * radius / radius.max())).to(torch.uint8)


def start_farthest(x: Tensor) -> Tensor:
    """Start each contour at the place farthest from its center."""
    return circular_shift(x, -x[:, 0].float().argmax(1, keepdim=True))


def train_classifier(train: ImageTensors, epochs: int) -> nn.Sequential:
    """Train a 1-D classifier on contours that start where they were traced."""
    layers: list[nn.Module] = []
    for before, after, taps in ((1, 32, 7), (32, 64, 5), (64, 64, 3)):
        layers += [nn.Conv1d(before, after, taps, stride=2, padding=taps // 2), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(64 * LENGTH // 8, 128), nn.ReLU(), nn.Linear(128, 10)]
    network = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for signals, labels in train.loader(128, shuffle=True):
            loss = nn.functional.cross_entropy(network(signals), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


if __name__ == "__main__":
    command_line(main)
