"""Pictures: images moved and restored, with their classes, and an animation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from matplotlib import style
from matplotlib.figure import Figure
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.motions import Motion

STYLE = "eqrestore_lightning.pictures"
"""Of every picture: `with style.context(STYLE):`."""


@torch.no_grad()
def draw_restored(
    path: Path,
    images: Tensor,
    restore: RestoreTransform,
    classifier: nn.Module,
    *,
    motion: Motion | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Path:
    """Draw images as they are, moved at random, as `restore` finds it by default, and restored."""
    motion = restore.estimator.motion if motion is None else motion
    generator = torch.Generator().manual_seed(seed)
    element = motion.draw(len(images), tuple(images.shape[2:]), generator=generator)
    moved = motion.apply(images, element)
    rows = [("original", images), ("moved", moved), ("restored", restore(moved))]
    return draw_rows(path, rows, classifier, [images] * 3, names=names)


def draw_turned(
    path: Path,
    images: Tensor,
    restore: RestoreTransform,
    classifier: nn.Module,
    motion: Motion,
    *,
    names: Sequence[str] | None = None,
) -> Path:
    """Draw images turned by four or eight angles, what they are restored to, and their classes."""
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
    return draw_rows(path, rows, classifier, originals, titles=titles, names=names)


@torch.no_grad()
def draw_rows(
    path: Path,
    rows: Sequence[tuple[str, Tensor]],
    classifier: nn.Module,
    originals: Sequence[Tensor],
    *,
    titles: Sequence[str] = (),
    names: Sequence[str] | None = None,
) -> Path:
    """Draw named rows of images, with an answer below each; `originals` have the right ones."""
    count, flat = len(rows[0][1]), rows[0][1].ndim == 4
    side = 1.15 if flat else 2.0
    classifier.eval()
    with style.context(STYLE):
        figure = Figure(figsize=(side * count + 1, 1.25 * side * len(rows) + 0.5))
        figure.set_layout_engine("constrained")
        projection = None if flat else {"projection": "3d"}
        axes = figure.subplots(len(rows), count, subplot_kw=projection, squeeze=False)
        for line, (row, images), original in zip(axes, rows, originals, strict=True):
            classes, right = (classifier(x.float() / 255).argmax(1) for x in (images, original))
            for axis, image, found, expected in zip(line, images, classes, right, strict=True):
                (_draw_image if flat else _draw_volume)(axis, image)
                _label_answer(axis, int(found), int(expected), names)
            if flat:
                line[0].set_ylabel(row)
            else:
                line[0].text2D(
                    -0.15, 0.5, row, transform=line[0].transAxes, rotation=90, va="center"
                )
        for axis, title in zip(axes[0], titles, strict=False):
            axis.set_title(title, loc="center", fontsize=9)
        figure.suptitle(
            "The answer of one frozen classifier: ✓ as for the original, ✗ another", fontsize=10
        )
        with whole_file(path) as part:
            figure.savefig(part, dpi=120 if flat else 80)
    return path


def _label_answer(axis: Any, found: int, expected: int, names: Sequence[str] | None) -> None:
    """Write an answer below an image, with a mark and a color that say whether it is right."""
    right = found == expected
    flat = axis.name == "rectilinear"
    (axis.text if flat else axis.text2D)(
        0.5,
        -0.04 if flat else 0.0,
        f"{'✓' if right else '✗'} {found if names is None else names[found]}",
        transform=axis.transAxes,
        ha="center",
        va="top",
        color="C1" if right else "C2",
        fontsize=9,
    )


@torch.no_grad()
def animate(path: Path, images: Tensor, restore: RestoreTransform, *, num_frames: int = 40) -> Path:
    """Draw images moving in a closed curve, above the restored ones, as a GIF."""
    frames = []
    height, width = images.shape[2:]
    font, margin = PIL.ImageFont.load_default(size=14), 72
    for step in range(num_frames):
        turn = 2 * math.pi * step / num_frames
        shift = [round(height / 2 * math.sin(turn)), round(width / 2 * math.sin(2 * turn))]
        moved = images.roll(shift, dims=(2, 3))
        upper, lower = (torch.cat(list(part), dim=2) for part in (moved, restore(moved)))
        picture = torch.cat([upper, torch.full_like(upper[:, :2], 128), lower], dim=1)
        picture = picture.expand(3, *picture.shape[1:]).permute(1, 2, 0)
        rows = PIL.Image.fromarray(picture.contiguous().numpy())
        rows = rows.resize((3 * rows.width, 3 * rows.height), PIL.Image.Resampling.NEAREST)
        frame = PIL.Image.new("RGB", (rows.width + margin, rows.height), "white")
        frame.paste(rows, (margin, 0))
        draw = PIL.ImageDraw.Draw(frame)
        for number, name in enumerate(("shifted", "restored")):
            place = (margin - 8, (2 * number + 1) * rows.height / 4)
            draw.text(place, name, fill="black", font=font, anchor="rm")
        frames.append(frame)
    with whole_file(path) as part:
        frames[0].save(part, save_all=True, append_images=frames[1:], duration=80, loop=0)
    return path


def _draw_image(axis: Any, image: Tensor) -> None:
    axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
    without_ticks(axis)


def without_ticks(axis: Any) -> None:
    """Leave the frame of an image, without ticks and grid."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)


def _draw_volume(axis: Any, image: Tensor) -> None:
    depth, height, width = (image[0] > 100).nonzero(as_tuple=True)
    sizes = image.shape[1:]
    axis.scatter(width, depth, sizes[1] - height, c=depth, s=2, cmap="viridis")
    axis.set(xlim=(0, sizes[2]), ylim=(0, sizes[0]), zlim=(0, sizes[1]))
    axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
