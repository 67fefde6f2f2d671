"""What the recipes for rotations share: turned data, accuracy against angle, and pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import torch
import wandb
from _augmented import Augmented
from _recipe import Recipe
from matplotlib import pyplot as plt
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, rotate
from eqrestore_lightning.training import draw_for_batch

mpl.use("Agg")

ANGLES = tuple(range(0, 360, 15))
Way = Callable[[Tensor], Tensor]


class Turned(Augmented):
    """Turn each training image by a random angle, to be named before a data module of images."""

    def augment(self, images: Tensor, step: int) -> Tensor:
        """Turn a training batch, each image by its own angle."""

        def draw(count: int, generator: torch.Generator) -> Tensor:
            return 360 * torch.rand(count, generator=generator)

        angle = draw_for_batch(draw, len(images), trainer=self.trainer, seed=self.seed, step=step)
        return rotate(images, angle.to(images.device))


@torch.no_grad()
def share_right(
    images: Tensor,
    labels: Tensor,
    angle: Tensor,
    ways: Mapping[str, Way],
    *,
    batch_size: int = 500,
) -> dict[str, float]:
    """Turn images, and count how often each way to classify them is right.

    Args:
        images: uint8 of shape `(num_images, channels, height, width)`.
        labels: int64 of shape `(num_images,)`.
        angle: Degrees, floating of shape `(num_images,)`.
        ways: Name to a function from turned images of 0…1 to logits.
        batch_size: Images at a time.

    Returns:
        Name to percent.
    """
    right = dict.fromkeys(ways, 0)
    parts = zip(*(torch.split(each, batch_size) for each in (images, labels, angle)), strict=True)
    for some_images, some_labels, some_angles in parts:
        turned = rotate(some_images.float() / 255, some_angles)
        for name, way in ways.items():
            right[name] += int((way(turned).argmax(1) == some_labels).sum())
    return {name: 100 * count / len(images) for name, count in right.items()}


def by_angle(
    images: Tensor, labels: Tensor, ways: Mapping[str, Way], angles: Sequence[float] = ANGLES
) -> dict[str, list[float]]:
    """Give the accuracy of each way at each angle, percent."""
    rows: dict[str, list[float]] = {name: [] for name in ways}
    for angle in angles:
        shares = share_right(images, labels, torch.full((len(images),), float(angle)), ways)
        for name, share in shares.items():
            rows[name].append(share)
    return rows


def random_angles(count: int, *, seed: int) -> Tensor:
    """Draw angles uniformly, degrees."""
    return 360 * torch.rand(count, generator=torch.Generator().manual_seed(seed))


def draw_curves(path: Path, rows: Mapping[str, Sequence[float]], title: str) -> Path:
    """Draw accuracy against angle, a line for each way."""
    figure, axis = plt.subplots(figsize=(7, 4))
    for name, values in rows.items():
        axis.plot(ANGLES[: len(values)], values, ".-", label=name)
    axis.set(xlabel="turned by, degrees", ylabel="accuracy, %", title=title, ylim=(0, 101))
    axis.set_xticks(range(0, 360, 45))
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


@torch.no_grad()
def draw_turned(
    path: Path, images: Tensor, restore: RestoreTransform, classifier: nn.Module
) -> Path:
    """Draw images at several angles, and what each is restored to, with the class it is given.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, channels, height, width)`.
        restore: Turns images back.
        classifier: From images of 0…1 to logits.
    """
    angles = torch.arange(0, 360, 45.0)
    figure, axes = plt.subplots(
        2 * len(images),
        len(angles),
        figsize=(1.05 * len(angles) + 0.6, 2.3 * len(images)),
        squeeze=False,
    )
    upright = classifier(images.float() / 255).argmax(1)
    for number, image in enumerate(images):
        turned = rotate(image.expand(len(angles), *image.shape), angles)
        for row, (name, pictures) in enumerate(
            {"turned": turned, "restored": restore(turned)}.items()
        ):
            classes = classifier(pictures.float() / 255).argmax(1)
            line = axes[2 * number + row]
            line[0].set_ylabel(name, fontsize=8)
            for column, axis in enumerate(line):
                axis.imshow(
                    pictures[column].permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255
                )
                axis.set_xticks([])
                axis.set_yticks([])
                same = bool(classes[column] == upright[number])
                axis.set_xlabel(
                    f"“{int(classes[column])}”",
                    color="tab:green" if same else "tab:red",
                    labelpad=1,
                    fontsize=8,
                )
                if number == row == 0:
                    axis.set_title(f"{angles[column]:.0f}°", fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def add_curves(
    recipe: Recipe, title: str, rows: Mapping[str, Sequence[float]], picture: Path
) -> None:
    """Print accuracy against angle, keep it, and log it as table, curves, chart and picture."""
    lines = [
        {"turned by, degrees": angle, **dict(zip(rows, values, strict=True))}
        for angle, values in zip(ANGLES, zip(*rows.values(), strict=True), strict=True)
    ]
    recipe.add_rows(title, lines)
    run = recipe.logger.experiment
    run.define_metric("angle/*", step_metric="angle/degrees")
    for angle, line in zip(ANGLES, lines, strict=True):
        values = {f"angle/{name}": line[name] for name in rows}
        run.log({"angle/degrees": angle, **values})
    chart = wandb.plot.line_series(
        ANGLES, list(rows.values()), keys=list(rows), title=title, xname="degrees"
    )
    run.log({f"charts/{title}": chart})
    recipe.add_picture(draw_curves(picture, rows, title))
