"""Tables, and pictures: images moved and restored, with their classes, and an animation."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import PIL.Image
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform
from eqrestore_lightning.files import whole_file
from eqrestore_lightning.motions import Motion

mpl.use("Agg")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    lines += [f"| {' | '.join(map(_cell, row.values()))} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 0.005 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else re.sub(r"\s+", " ", str(value))


@torch.no_grad()
def draw_restored(
    path: Path,
    images: Tensor,
    restore: RestoreTransform,
    classifier: nn.Module,
    *,
    motion: Motion | None = None,
    seed: int = 0,
) -> Path:
    """Draw images as they are, moved and restored.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, channels, *spatial)`, two or three spatial axes.
        restore: Moves images back.
        classifier: From images of 0…1 to logits.
        motion: How to move them; by default any motion that `restore` finds.
        seed: Determines the motions.
    """
    motion = restore.estimator.motion if motion is None else motion
    generator = torch.Generator().manual_seed(seed)
    element = motion.draw(len(images), tuple(images.shape[2:]), generator=generator)
    moved = motion.apply(images, element)
    rows = [("original", images), ("moved", moved), ("restored", restore(moved))]
    return draw_rows(path, rows, classifier, [images] * 3)


def draw_turned(
    path: Path,
    images: Tensor,
    restore: RestoreTransform,
    classifier: nn.Module,
    motion: Motion,
) -> Path:
    """Draw images turned by four or eight angles, what they are restored to, and their classes.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, channels, height, width)`.
        restore: Moves images back.
        classifier: From images of 0…1 to logits.
        motion: Turns images by quarters or any angle, and moves them in further ways at random.
    """
    generator = torch.Generator().manual_seed(0)
    by_quarters = any(field.name == "quarters" for field in motion.fields)
    angles = torch.arange(0, 360, 90.0 if by_quarters else 45.0)
    turned = {"quarters": torch.arange(4)} if by_quarters else {"angle": angles}
    rows, originals = [], []
    for image in images:
        original = image.expand(len(angles), *image.shape)
        element = motion.draw(len(angles), tuple(image.shape[1:]), generator=generator)
        moved = motion.apply(original, {**element, **turned})
        rows += [("moved", moved), ("restored", restore(moved))]
        originals += [original, original]
    titles = [f"{angle:.0f}°" for angle in angles.tolist()]
    return draw_rows(path, rows, classifier, originals, titles=titles)


@torch.no_grad()
def draw_rows(
    path: Path,
    rows: Sequence[tuple[str, Tensor]],
    classifier: nn.Module,
    originals: Sequence[Tensor],
    *,
    titles: Sequence[str] = (),
) -> Path:
    """Draw rows of images, with the class of each below: green if it is that of the original.

    Args:
        path: File to write.
        rows: Name and images of each row, uint8 of shape `(num_images, channels, *spatial)`.
        classifier: From images of 0…1 to logits.
        originals: For each row, the images whose classes are the right ones.
        titles: Above the columns.
    """
    count, flat = len(rows[0][1]), rows[0][1].ndim == 4
    side = 1.15 if flat else 2.0
    figure, axes = plt.subplots(
        len(rows),
        count,
        figsize=(side * count + 1, 1.25 * side * len(rows)),
        subplot_kw=None if flat else {"projection": "3d"},
        squeeze=False,
    )
    classifier.eval()
    for line, (name, images), original in zip(axes, rows, originals, strict=True):
        classes, right = (classifier(x.float() / 255).argmax(1) for x in (images, original))
        for axis, image, found, expected in zip(line, images, classes, right, strict=True):
            (_draw_image if flat else _draw_volume)(axis, image)
            color = "tab:green" if found == expected else "tab:red"
            axis.set_title(f"“{int(found)}”", color=color, y=-0.25, fontsize=9)
        if flat:
            line[0].set_ylabel(name, fontsize=9)
        else:
            line[0].text2D(-0.15, 0.5, name, transform=line[0].transAxes, rotation=90, va="center")
    for axis, title in zip(axes[0], titles, strict=False):
        axis.text(0.5, 1.05, title, transform=axis.transAxes, ha="center", fontsize=9)
    figure.tight_layout()
    with whole_file(path) as part:
        figure.savefig(part, dpi=120 if flat else 80)
    plt.close(figure)
    return path


@torch.no_grad()
def animate(path: Path, images: Tensor, restore: RestoreTransform, *, num_frames: int = 40) -> Path:
    """Draw images moving in a closed curve, above the restored ones, as a GIF.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, 1 or 3, height, width)`.
        restore: Moves images back.
        num_frames: Number of frames.
    """
    frames = []
    height, width = images.shape[2:]
    for step in range(num_frames):
        turn = 2 * math.pi * step / num_frames
        shift = [round(height / 2 * math.sin(turn)), round(width / 2 * math.sin(2 * turn))]
        moved = images.roll(shift, dims=(2, 3))
        upper, lower = (torch.cat(list(part), dim=2) for part in (moved, restore(moved)))
        picture = torch.cat([upper, torch.full_like(upper[:, :2], 128), lower], dim=1)
        picture = picture.expand(3, *picture.shape[1:]).permute(1, 2, 0)
        frame = PIL.Image.fromarray(picture.contiguous().numpy())
        frames.append(
            frame.resize((3 * frame.width, 3 * frame.height), PIL.Image.Resampling.NEAREST)
        )
    with whole_file(path) as part:
        frames[0].save(part, save_all=True, append_images=frames[1:], duration=80, loop=0)
    return path


def _draw_image(axis: Any, image: Tensor) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])


def _draw_volume(axis: Any, image: Tensor) -> None:
    depth, height, width = (image[0] > 100).nonzero(as_tuple=True)
    sizes = image.shape[1:]
    axis.scatter(width, depth, sizes[1] - height, c=depth, s=2, cmap="viridis")
    axis.set(xlim=(0, sizes[2]), ylim=(0, sizes[0]), zlim=(0, sizes[1]))
    axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
