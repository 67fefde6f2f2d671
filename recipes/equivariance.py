"""Equivariance one can see: feature maps that move with the digit, and one that does not.

The article's experiment: its 4-layer LeNet without pooling between the layers, trained on MNIST,
sees a digit move over a 38 × 38 canvas; its last feature map is colored by k-means. Beside it,
under the same shifts, a multi-layer perceptron, whose hidden units are laid out as a map, and a
network of circular convolutions. Writes the animation, prints parameters, accuracies and errors.

    lightning run recipes/equivariance.py --data data

Takes 17 minutes on one core (Intel Xeon).
"""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _data import spread
from _figures import STYLE, without_ticks
from _run import DATA, Run, command_line, is_rank_zero
from matplotlib import style
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torchvision.transforms import v2

from eqrestore_lightning import MNISTDataModule, evaluate
from eqrestore_lightning.classifiers import register_classifier
from eqrestore_lightning.data import ImageTensors, InMemoryDataModule
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.nn import CircularConv
from eqrestore_lightning.testing import equivariance_error

CANVAS, FREE = 38, 5  # pixels; how far a digit of 28 pixels can move to either side
NUM_COLORS = 6
COLORS = np.array(
    [[13, 17, 38], [69, 46, 140], [38, 130, 142], [94, 201, 98], [253, 231, 37], [240, 96, 72]]
)
NETWORKS = {
    "multi-layer perceptron": "perceptron",
    "LeNet, no pooling": "lenet",
    "circular convolutions": "circular",
}


class MapClassifier(nn.Module):
    """A classifier with a feature map, of images of a `size` to which they are cut or padded."""

    def __init__(self, size: int | None, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.prepare = v2.CenterCrop(size) if size else nn.Identity()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits: `(batch, channels, height, width)` to `(batch, num_classes)`."""
        return self.head(self.features(self.prepare(x)))  # type: ignore[no-any-return]


@register_classifier
def perceptron(in_channels: int, num_classes: int) -> MapClassifier:
    """Build two dense layers on the canvas; the hidden one has as many units as it has pixels."""
    places = CANVAS * CANVAS
    hidden = [nn.Flatten(), nn.Linear(in_channels * places, places), nn.ReLU()]
    features = nn.Sequential(*hidden, nn.Unflatten(1, (1, CANVAS, CANVAS)))
    head = nn.Sequential(nn.Flatten(), nn.Linear(places, num_classes))
    return MapClassifier(CANVAS, features, head)


@register_classifier
def lenet(in_channels: int, num_classes: int) -> MapClassifier:
    """Build the article's network: four layers 5 × 5 without padding, then pooling, one dense."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((in_channels, 20, 40, 40, 5)):
        layers += [nn.Conv2d(before, after, 5), nn.ReLU()]
    head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 6 * 5, num_classes))
    return MapClassifier(28, nn.Sequential(*layers), head)


@register_classifier
def circular(in_channels: int, num_classes: int) -> MapClassifier:
    """Build four layers 5 × 5 that wrap around, then the largest entry of each map, one dense."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((in_channels, 8, 16, 16, 16)):
        layers += [CircularConv(2, before, after, 5), nn.ReLU()]
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
    return MapClassifier(None, nn.Sequential(*layers), head)


def main(
    data: Path = DATA,
    output: Path = Path("outputs/equivariance"),
    epochs: int = 4,
    num_images: int = 10_000,
    num_frames: int = 40,
    digit: int = 0,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw; by default EQRESTORE_DATA, or data.
        output: Folder for the animation, the table and W&B's files.
        epochs: Epochs of each network.
        num_images: Test images that accuracy is measured on.
        num_frames: Frames of the animation.
        digit: Number of the test image that moves.
        seed: Seed of everything random.
    """
    run = Run("equivariance", output, seed=seed, tags=["theory"], config={"epochs": epochs})
    source = MNISTDataModule(data, batch_size=256, seed=seed)
    report(run, source, epochs, num_images=num_images, num_frames=num_frames, digit=digit)


def report(
    run: Run,
    data: InMemoryDataModule,
    epochs: int,
    *,
    num_images: int,
    num_frames: int,
    digit: int,
) -> None:
    """Train all networks, print the table, draw the animation."""
    networks = {
        name: run.fit_classifier(
            architecture, data, epochs=epochs, architecture=architecture, learning_rate=2e-3
        ).eval()
        for name, architecture in NETWORKS.items()
    }
    if not is_rank_zero():  # evaluate in one process: several would repeat images
        return
    test = data.dataset("test")
    canvas = canvases(test.images[:50].float() / 255)
    chosen = spread(test, num_images)
    rows = [
        {"network": name, **measure(network, chosen, canvas[:4], seed=run.seed)}
        for name, network in networks.items()
    ]
    run.add_table("equivariance", rows)
    painters = {name: Painter(feature_map(network), canvas) for name, network in networks.items()}
    moving = canvases(test.images[digit : digit + 1].float() / 255)
    run.add_picture(animate(run.output / "equivariance.gif", moving, painters, num_frames))
    run.close()


def measure(
    network: nn.Module, images: ImageTensors, canvas: Tensor, *, seed: int
) -> dict[str, Any]:
    """Return a row of the table: parameters, accuracies, errors of the feature map."""
    evaluation = evaluate(
        network,
        ((canvases(x), labels) for x, labels in images.loader(500)),
        restorers={},
        motions=shift_motions((0, FREE)),
        seed=seed,
    )
    still, moved = (100 * result.measures["accuracy"] for result in evaluation.results)
    errors = map_errors(feature_map(network), canvas)
    return {
        "parameters up to the map": count_parameters(feature_map(network)),
        "all parameters": count_parameters(network),
        "accuracy, %": still,
        f"accuracy, shifts up to {FREE}, %": moved,
        "equivariance error, mean": sum(errors) / len(errors),
        "equivariance error, largest": max(errors),
    }


def feature_map(network: nn.Module) -> nn.Module:
    """Return the part of a trained network that computes the feature map."""
    return network.get_submodule("classifier.features")


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def canvases(images: Tensor) -> Tensor:
    """Put images of 32 × 32 (28 and a border) into the middle of canvases."""
    return F.pad(images, [(CANVAS - images.shape[-1]) // 2] * 4)


def map_errors(features: nn.Module, canvas: Tensor) -> list[float]:
    """Measure the equivariance error of a map off its border, for shifts that cut no digit."""
    free = range(-FREE, FREE + 1, 2)
    return [
        equivariance_error(features, canvas, shift=shift, stride=1, ignored_border=FREE)
        for shift in itertools.product(free, free)
    ]


class Painter:
    """Color the places of a feature map by k-means of their activations on `canvas`."""

    def __init__(self, features: nn.Module, canvas: Tensor) -> None:
        self.features = features
        activations = self._activations(canvas)
        self.means = KMeans(NUM_COLORS, n_init=3, random_state=0).fit(activations)
        brightness = np.linalg.norm(self.means.cluster_centers_, axis=1)
        self.rank = np.argsort(np.argsort(brightness))

    def __call__(self, canvas: Tensor) -> np.ndarray[Any, Any]:
        """Return the cluster of every place, the faintest first, of shape `(height, width)`."""
        height, width = self.features(canvas).shape[-2:]
        found: np.ndarray[Any, Any] = self.rank[self.means.predict(self._activations(canvas))]
        return found.reshape(height, width)

    @torch.no_grad()
    def _activations(self, canvas: Tensor) -> np.ndarray[Any, Any]:
        maps: np.ndarray[Any, Any] = self.features(canvas).movedim(1, -1).flatten(0, 2).numpy()
        return maps.astype(np.float64)


def animate(path: Path, canvas: Tensor, painters: Mapping[str, Painter], num_frames: int) -> Path:
    """Draw a digit on its way around the canvas, beside the colored feature maps."""
    turns = [2 * math.pi * frame / num_frames for frame in range(num_frames)]
    shifts = [(round(FREE * math.sin(turn)), round(FREE * math.cos(turn))) for turn in turns]
    with style.context(STYLE):
        figure = Figure(figsize=(2.2 * (1 + len(painters)), 2.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 1 + len(painters))
        pictures = []
        for axis, title in zip(axes, ["input", *painters], strict=True):
            axis.set_title(title, loc="center", fontsize=9)
            without_ticks(axis)
            pictures.append(axis.imshow(np.zeros((CANVAS, CANVAS, 3), dtype=np.uint8)))

    def draw(shift: tuple[int, int]) -> None:
        moved = canvas.roll(shift, (2, 3))
        pictures[0].set_data((255 * moved[0, 0, :, :, None]).byte().expand(-1, -1, 3).numpy())
        for picture, painter in zip(pictures[1:], painters.values(), strict=True):
            colored = COLORS[painter(moved)].astype(np.uint8)
            border = (CANVAS - len(colored)) // 2  # at the scale of the canvas, in its place
            picture.set_data(np.pad(colored, [(border,) * 2] * 2 + [(0, 0)], constant_values=255))

    with whole_file(path) as part:
        FuncAnimation(figure, draw, frames=shifts).save(part, writer=PillowWriter(fps=10), dpi=72)
    return path


if __name__ == "__main__":
    command_line(main)
