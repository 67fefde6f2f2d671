"""Equivariance one can see: feature maps that move with the digit, and one that does not.

The article's experiment: its 4-layer LeNet without pooling between the layers, trained on MNIST,
sees a digit move over a 38 × 38 canvas; its last feature map is coloured by k-means. Beside it,
under the same shifts, a multi-layer perceptron, whose hidden units are laid out as a map, and a
network of circular convolutions. Writes the animation, and prints parameters, accuracies, errors.

    lightning run recipes/equivariance.py --data data

It took 17 minutes on one core (Intel Xeon).
"""

import itertools
import math
import os
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
import wandb
from _recipe import DATA, hardware
from jsonargparse import auto_cli
from lightning.pytorch.loggers import WandbLogger
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torchvision.transforms import v2

from eqrestore_lightning import CircularConv2d, MNISTDataModule, circular_shift, random_shift
from eqrestore_lightning.testing import equivariance_error

mpl.use("Agg")
CANVAS, FREE = 38, 5  # pixels; how far a digit of 28 pixels can move to either side
NUM_COLOURS = 6
COLOURS = np.array(
    [[13, 17, 38], [69, 46, 140], [38, 130, 142], [94, 201, 98], [253, 231, 37], [240, 96, 72]]
)


class MapClassifier(L.LightningModule):
    """A classifier with a feature map to look at.

    Args:
        size: Side of the images that it takes, cut out of the middle or padded with zeros; `None`
            for any.
        features: From images to the feature map.
        head: From the feature map to logits.
    """

    def __init__(self, size: int | None, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.prepare = v2.CenterCrop(size) if size else nn.Identity()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Give logits: `(batch, 1, height, width)` to `(batch, 10)`."""
        return self.head(self.features(self.prepare(x)))  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Give the cross-entropy of one batch."""
        del batch_idx
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Build AdamW with a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def perceptron() -> MapClassifier:
    """Build two dense layers on the canvas; the hidden one has as many units as it has pixels."""
    places = CANVAS * CANVAS
    hidden = [nn.Flatten(), nn.Linear(places, places), nn.ReLU()]
    features = nn.Sequential(*hidden, nn.Unflatten(1, (1, CANVAS, CANVAS)))
    return MapClassifier(CANVAS, features, nn.Sequential(nn.Flatten(), nn.Linear(places, 10)))


def lenet() -> MapClassifier:
    """Build the article's network: four layers 5 × 5 without padding, then pooling, one dense."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((1, 20, 40, 40, 5)):
        layers += [nn.Conv2d(before, after, 5), nn.ReLU()]
    head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 6 * 5, 10))
    return MapClassifier(28, nn.Sequential(*layers), head)


def circular() -> MapClassifier:
    """Build four layers 5 × 5 that wrap around, then the largest entry of each map, one dense."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((1, 8, 16, 16, 16)):
        layers += [CircularConv2d(before, after, 5), nn.ReLU()]
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return MapClassifier(None, nn.Sequential(*layers), head)


NETWORKS = {
    "multi-layer perceptron": perceptron,
    "LeNet, no pooling": lenet,
    "circular convolutions": circular,
}


def main(
    data: Path = DATA,
    output: Path = Path("outputs/equivariance"),
    epochs: int = 4,
    batches: int | None = None,
    test_images: int = 10_000,
    frames: int = 40,
    digit: int = 0,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw; by default what EQRESTORE_DATA names, or data.
        output: Folder for the animation, the table and W&B's files.
        epochs: Epochs of training.
        batches: Batches in an epoch, of 256 images; all by default.
        test_images: Test images that accuracy is measured on.
        frames: Frames of the animation.
        digit: Number of the test image that moves.
        seed: Decides everything random.
    """
    run = _start_run(output, {"epochs": epochs, "batches": batches, "seed": seed})
    source = MNISTDataModule(data, seed=seed)
    images, labels = source.dataset("test").images, source.dataset("test").labels[:test_images]
    canvas = canvases(images[:50])
    columns = [
        "network",
        "parameters up to the map",
        "all parameters",
        "accuracy, %",
        f"accuracy, shifts up to {FREE}, %",
        "equivariance error, mean",
        "equivariance error, largest",
    ]
    rows: list[list[Any]] = []
    painters: dict[str, Painter] = {}
    for name, build in NETWORKS.items():
        L.seed_everything(seed, verbose=False)
        network = _train(name, build(), source, run, output, epochs, batches)
        painters[name] = Painter(network.features, canvas)
        errors = map_errors(network.features, canvas[:4])
        rows.append(
            [
                name,
                sum(parameter.numel() for parameter in network.features.parameters()),
                sum(parameter.numel() for parameter in network.parameters()),
                round(100 * accuracy(network, images[:test_images], labels, 0, seed), 2),
                round(100 * accuracy(network, images[:test_images], labels, FREE, seed), 2),
                float(f"{sum(errors) / len(errors):.2g}"),
                float(f"{max(errors):.2g}"),
            ]
        )
    lines = [columns, ["---"] * len(columns), *([str(cell) for cell in row] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(f"\n{table}\n\n{hardware()}")
    (output / "table.md").write_text(table + "\n", encoding="utf-8")
    path = animate(
        output / "equivariance.gif", canvases(images[digit : digit + 1]), painters, frames
    )
    run.log({"table": wandb.Table(columns=[*columns], data=rows)})
    run.log({"animation": wandb.Video(str(path), format="gif")})
    wandb.finish()
    print(f"Wrote {path}.")


def canvases(images: Tensor) -> Tensor:
    """Put images of 32 × 32 (28 and a border) into the middle of canvases, from 0 to 1."""
    border = (CANVAS - images.shape[-1]) // 2
    return F.pad(images, [border] * 4).float() / 255


def map_errors(features: nn.Module, canvas: Tensor) -> list[float]:
    """Measure the equivariance error of a feature map, for shifts that cut no digit.

    What lies within 5 pixels of the border of the map is not compared: LeNet has no padding, so
    that what leaves its map does not enter on the other side.
    """
    free = range(-FREE, FREE + 1, 2)
    return [
        equivariance_error(features, canvas, shift=shift, stride=1, ignored_border=FREE)
        for shift in itertools.product(free, free)
    ]


@torch.no_grad()
def accuracy(
    network: MapClassifier, images: Tensor, labels: Tensor, max_shift: int, seed: int
) -> float:
    """Measure accuracy on canvases moved at random."""
    generator = torch.Generator().manual_seed(seed)
    correct = 0
    for batch, expected in zip(torch.split(images, 500), torch.split(labels, 500), strict=True):
        shift = random_shift(len(batch), max_shift, generator=generator)
        moved = circular_shift(canvases(batch), shift)
        correct += int((network(moved).argmax(1) == expected).sum())
    return correct / len(images)


class Painter:
    """Colour the places of a feature map by k-means of their activations.

    Args:
        features: Gives the feature map.
        canvas: Images whose activations decide the clusters.
    """

    def __init__(self, features: nn.Module, canvas: Tensor) -> None:
        self.features = features
        activations = self._activations(canvas)
        self.means = KMeans(NUM_COLOURS, n_init=3, random_state=0).fit(activations)
        brightness = np.linalg.norm(self.means.cluster_centers_, axis=1)
        self.rank = np.argsort(np.argsort(brightness))

    def __call__(self, canvas: Tensor) -> np.ndarray[Any, Any]:
        """Give the cluster of every place, the faintest first, of shape `(height, width)`."""
        height, width = self.features(canvas).shape[-2:]
        found: np.ndarray[Any, Any] = self.rank[self.means.predict(self._activations(canvas))]
        return found.reshape(height, width)

    @torch.no_grad()
    def _activations(self, canvas: Tensor) -> np.ndarray[Any, Any]:
        maps: np.ndarray[Any, Any] = self.features(canvas).movedim(1, -1).flatten(0, 2).numpy()
        return maps.astype(np.float64)


def animate(path: Path, canvas: Tensor, painters: dict[str, Painter], frames: int) -> Path:
    """Draw a digit on its way round the canvas, beside the coloured feature maps."""
    turns = [2 * math.pi * frame / frames for frame in range(frames)]
    shifts = [(round(FREE * math.sin(turn)), round(FREE * math.cos(turn))) for turn in turns]
    figure, axes = plt.subplots(1, 1 + len(painters), figsize=(2.2 * (1 + len(painters)), 2.5))
    pictures = []
    for axis, title in zip(axes, ["input", *painters], strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        pictures.append(axis.imshow(np.zeros((CANVAS, CANVAS, 3), dtype=np.uint8)))
    figure.tight_layout()

    def draw(shift: tuple[int, int]) -> None:
        moved = canvas.roll(shift, (2, 3))
        pictures[0].set_data((255 * moved[0, 0, :, :, None]).byte().expand(-1, -1, 3).numpy())
        for picture, painter in zip(pictures[1:], painters.values(), strict=True):
            coloured = COLOURS[painter(moved)].astype(np.uint8)
            border = (CANVAS - len(coloured)) // 2  # at the scale of the canvas, in its place
            picture.set_data(np.pad(coloured, [(border,) * 2] * 2 + [(0, 0)], constant_values=255))

    FuncAnimation(figure, draw, frames=shifts).save(path, writer=PillowWriter(fps=10), dpi=72)
    plt.close(figure)
    return path


def _train(
    name: str,
    network: MapClassifier,
    source: MNISTDataModule,
    run: Any,
    output: Path,
    epochs: int,
    batches: int | None,
) -> MapClassifier:
    L.Trainer(
        max_epochs=epochs,
        limit_train_batches=batches,
        limit_val_batches=0,
        devices=1,
        default_root_dir=output,
        logger=WandbLogger(experiment=run, prefix=name, save_dir=output),
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    ).fit(network, train_dataloaders=source.train_dataloader())
    return network.cpu().eval()


def _start_run(output: Path, config: dict[str, Any]) -> Any:
    offline = os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)
    if offline:
        print(f"Logging to W&B offline, below {output}; `wandb sync` uploads it.")
    output.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project="eqrestore-lightning",
        name="equivariance",
        tags=["equivariance"],
        dir=output,
        mode="offline" if offline else "online",
        config={**config, "hardware": hardware()},
    )


if __name__ == "__main__":
    auto_cli(main)
