"""What the recipes for rotations share: turned data, accuracy against angle, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
import wandb
from _augmented import Augmented
from _recipe import Recipe
from matplotlib import pyplot as plt
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, circular_shift, random_shift, rotate
from eqrestore_lightning.training import RotationResult, draw_for_batch

mpl.use("Agg")


class Turned(Augmented):
    """Turn each training image by a random angle, to be named before a data module of images."""

    def augment(self, images: Tensor, step: int) -> Tensor:
        """Turn a training batch, each image by its own angle."""

        def draw(count: int, generator: torch.Generator) -> Tensor:
            return 360 * torch.rand(count, generator=generator)

        angle = draw_for_batch(draw, len(images), trainer=self.trainer, seed=self.seed, step=step)
        return rotate(images, angle.to(images.device))


def random_angles(count: int, *, seed: int) -> Tensor:
    """Draw angles uniformly, degrees."""
    return 360 * torch.rand(count, generator=torch.Generator().manual_seed(seed))


def draw_curves(
    path: Path, angles: Sequence[float], rows: Mapping[str, Sequence[float]], title: str
) -> Path:
    """Draw accuracy against angle, a line for each way."""
    figure, axis = plt.subplots(figsize=(9, 4))
    for name, values in rows.items():
        axis.plot(angles, values, ".-", label=name)
    axis.set(xlabel="turned by, degrees", ylabel="accuracy, %", title=title, ylim=(0, 101))
    axis.set_xticks(range(0, 360, 45))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


@torch.no_grad()
def draw_turned(
    path: Path,
    images: Tensor,
    restore: RestoreTransform,
    classifier: nn.Module,
    *,
    max_shift: int = 0,
) -> Path:
    """Draw images at several angles, and what each is restored to, with the class it is given.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, channels, height, width)`.
        restore: Turns images back.
        classifier: From images of 0…1 to logits.
        max_shift: Largest circular shift of turned images, pixels.
    """
    generator = torch.Generator().manual_seed(0)
    angles = torch.arange(0, 360, 45.0)
    figure, axes = plt.subplots(
        2 * len(images),
        len(angles),
        figsize=(1.05 * len(angles) + 0.6, 2.3 * len(images)),
        squeeze=False,
    )
    upright = classifier(images.float() / 255).argmax(1)
    for number, image in enumerate(images):
        shift = random_shift(len(angles), max_shift, generator=generator)
        moved = circular_shift(rotate(image.expand(len(angles), *image.shape), angles), shift)
        given = "turned, shifted" if max_shift else "turned"
        rows = {given: moved, "restored": restore(moved)}
        for row, (name, pictures) in enumerate(rows.items()):
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
    recipe: Recipe, title: str, results: Sequence[RotationResult], picture: Path
) -> None:
    """Print accuracy against angle, keep it, and log it as table, curves, chart and picture."""
    fixed = [result for result in results if result.angle is not None]
    angles = [result.angle or 0 for result in fixed if result.restorer == fixed[0].restorer]
    rows = {
        name: [100 * result.accuracy for result in fixed if result.restorer == name]
        for name in dict.fromkeys(result.restorer for result in fixed)
    }
    lines = [
        {"turned by, degrees": f"{angle:g}", **dict(zip(rows, values, strict=True))}
        for angle, values in zip(angles, zip(*rows.values(), strict=True), strict=True)
    ]
    recipe.add_rows(title, lines)
    run = recipe.logger.experiment
    run.define_metric("angle/*", step_metric="angle/degrees")
    for angle, line in zip(angles, lines, strict=True):
        run.log({"angle/degrees": angle, **{f"angle/{name}": line[name] for name in rows}})
    chart = wandb.plot.line_series(
        angles, list(rows.values()), keys=list(rows), title=title, xname="degrees"
    )
    run.log({f"charts/{title}": chart})
    recipe.add_picture(draw_curves(picture, angles, rows, title))


def accuracy_rows(results: Sequence[RotationResult]) -> list[dict[str, Any]]:
    """Give a row for each restorer: accuracy upright and over random angles, and consistency."""
    return [
        {
            "": any_angle.restorer,
            "upright": 100 * upright.accuracy,
            "any angle": 100 * any_angle.accuracy,
            "same class under two angles": 100 * any_angle.consistency,
        }
        for upright, any_angle in zip(
            [result for result in results if result.angle == 0],
            [result for result in results if result.angle is None],
            strict=True,
        )
    ]
