"""Pictures: images restored, accuracy against shift, an animation."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import PIL.Image
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, circular_shift, random_shift
from eqrestore_lightning.training import ShiftResult

mpl.use("Agg")


@torch.no_grad()
def draw_restored(
    path: Path, images: Tensor, restore: RestoreTransform, classifier: nn.Module, *, seed: int
) -> Path:
    """Draw images as they are, shifted and restored, each with the class it is given.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, channels, *spatial)`, two or three axes.
        restore: Moves images back.
        classifier: From images of 0…1 to logits.
        seed: Decides the shifts, of up to half the image.
    """
    generator = torch.Generator().manual_seed(seed)
    dims = images.ndim - 2
    shift = random_shift(
        len(images), images.shape[-1] // 2, num_spatial_dims=dims, generator=generator
    )
    shifted = circular_shift(images, shift)
    rows = {"original": images, "shifted": shifted, "restored": restore(shifted)}
    upright = classifier(images.float() / 255).argmax(1)
    side = 1.15 if dims == 2 else 2.0
    figure, axes = plt.subplots(
        3,
        len(images),
        figsize=(side * len(images) + 1, 3.8 * side),
        subplot_kw={"projection": "3d"} if dims == 3 else None,
    )
    for row, (name, pictures) in enumerate(rows.items()):
        classes = classifier(pictures.float() / 255).argmax(1)
        for column, axis in enumerate(axes[row]):
            (_draw_image if dims == 2 else _draw_volume)(axis, pictures[column])
            same = bool(classes[column] == upright[column])
            label = f"“{int(classes[column])}”"
            axis.set_title(label, color="tab:green" if same else "tab:red", y=-0.22, fontsize=11)
        axes[row][0].text2D(
            -0.15, 0.5, name, transform=axes[row][0].transAxes, rotation=90, va="center"
        ) if dims == 3 else axes[row][0].set_ylabel(name)
    figure.suptitle("The same frozen classifier; its answer below each image", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=120 if dims == 2 else 80)
    plt.close(figure)
    return path


def draw_accuracy(path: Path, curves: Mapping[str, Sequence[ShiftResult]], title: str) -> Path:
    """Draw accuracy against the size of shifts, a line for each restorer of each curve.

    Args:
        path: File to write.
        curves: Name, empty if there is one only, to what `evaluate_shifts` gave.
        title: Above the picture.
    """
    figure, axis = plt.subplots(figsize=(5.6, 3.6))
    for name, results in curves.items():
        for restorer in dict.fromkeys(result.restorer for result in results):
            line = [result for result in results if result.restorer == restorer]
            axis.plot(
                [result.max_shift for result in line],
                [100 * result.accuracy for result in line],
                "s--" if restorer == "no restorer" else "o-",
                label=f"{name}: {restorer}" if name else restorer,
                markersize=4,
            )
    axis.set(xlabel="shifts up to, pixels", ylabel="accuracy, %", title=title)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


@torch.no_grad()
def animate(
    path: Path, images: Tensor, restore: Callable[[Tensor], Tensor], *, num_frames: int = 40
) -> Path:
    """Let images wander around, above what the restorer makes of them, as a GIF.

    Args:
        path: File to write.
        images: uint8 of shape `(num_images, 1 or 3, height, width)`.
        restore: From images to restored images.
        num_frames: Steps of the way, which ends where it began.
    """
    frames = []
    height, width = images.shape[2:]
    for step in range(num_frames):
        turn = 2 * math.pi * step / num_frames
        shift = [round(height / 2 * math.sin(turn)), round(width / 2 * math.sin(2 * turn))]
        moved = images.roll(shift, dims=(2, 3))
        rows = [torch.cat(list(part), dim=2) for part in (moved, restore(moved))]
        line = torch.full_like(rows[0][:, :2], 128)
        picture = torch.cat([rows[0], line, rows[1]], dim=1)
        picture = picture.expand(3, *picture.shape[1:]).permute(1, 2, 0)
        frame = PIL.Image.fromarray(picture.contiguous().numpy())
        frames.append(
            frame.resize((3 * frame.width, 3 * frame.height), PIL.Image.Resampling.NEAREST)
        )
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, loop=0)
    return path


def _draw_image(axis: Axes, picture: Tensor) -> None:
    axis.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])


def _draw_volume(axis: Any, picture: Tensor) -> None:
    depth, height, width = (picture[0] > 100).nonzero(as_tuple=True)
    sizes = picture.shape[1:]
    axis.scatter(width, depth, sizes[1] - height, c=depth, s=2, cmap="viridis")
    axis.set(xlim=(0, sizes[2]), ylim=(0, sizes[0]), zlim=(0, sizes[1]))
    axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
