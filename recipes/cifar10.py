"""The paper's CIFAR-10 experiments, a restorer in front of four frozen classifiers.

CIFAR-10 is padded with 4 zeros to 40 × 40, as in the paper. Sections, one by one with `--only`:

- `restorer`: how often the shift is found, beside rules that need no training, and that restored
  images are the same for shifts of up to 0 … 20 pixels;
- `table1`: accuracy of ResNet-18 under circular shifts of up to 0 … 8 pixels, with and without the
  restorer: Figure 1;
- `table2`: VGG-16, ResNet-18, DenseNet-121 and MobileNet v2, shifts of up to 4 pixels;
- `figure3`: images as they are, shifted and restored, and an animation;
- `figure4`: ResNet-18 trained with and without shifted images, inside and beyond their range;
- `zeros`: shifts that lose what leaves, and an estimator trained on such shifts;
- `gate`: what leaving images of small margin as they are gains and costs;
- `cost`: share of the restorer in the time of a ResNet-18 with a small stem.

Each stage of training is kept in `output`: nothing is trained twice, and an interrupted run goes on
where it stopped when the same command is given again.

    lightning run --precision bf16-mixed recipes/cifar10.py --data data
    lightning run --precision bf16-mixed recipes/cifar10.py --data data --scale small

The first is for a GPU; the second trains each classifier for one epoch, with torchvision's original
stems, and VGG-16 at a quarter of its width, for a CPU. On one core of an Intel Xeon shared with
other work training took 56 s (restorer), 2 minutes (VGG-16) and 8 to 11 minutes (the other three).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import lightning as L
import torch
from _figures import animate, draw_accuracy, draw_restored
from _measure import gate_rows, share_of_time, shifts_found, spread
from _recipe import DATA, Recipe, is_rank_zero
from _rules import blank_border_rule, largest_seam
from jsonargparse import auto_cli
from torch import nn

from eqrestore_lightning import (
    CIFAR10DataModule,
    ClassifierModule,
    RestorerModule,
    RestoreTransform,
    TranslationEstimator,
    circular_shift,
    evaluate_shifts,
    random_shift,
)
from eqrestore_lightning.classifiers import Architecture, Stem, build_classifier
from eqrestore_lightning.training import (
    Restorer,
    ShiftFill,
    ShiftKind,
    ShiftResult,
    load_classifier,
    trainer_options,
)

Section: TypeAlias = Literal[
    "restorer", "table1", "table2", "figure3", "figure4", "zeros", "gate", "cost"
]
# One linear layer, one filter a channel, each the outer product of two: enough to find a border.
NETWORK: dict[str, Any] = {"hidden_channels": [], "kernel_size": "full", "separable": True}
PAPER_TABLE_1 = {
    "accuracy, paper: no restorer": [88.21, 86.58, 85.9, 83.65, 82.16, 80.46, 79.37, 77.71, 76.01],
    "accuracy, paper: restored": [88.18] * 9,
}
PAPER_TABLE_2: dict[Architecture, tuple[float, float, float]] = {
    "vgg16": (89.27, 83.40, 89.23),
    "resnet18": (88.21, 82.16, 88.18),
    "densenet121": (92.14, 90.46, 92.12),
    "mobilenet_v2": (88.10, 83.36, 88.09),
}


@dataclass(frozen=True)
class Scale:
    """How long to train, what, and how many test images the longer curves are measured on."""

    classifier_epochs: int
    stem: Stem
    restorer_epochs: int
    num_images: int
    widths: dict[str, float] = field(default_factory=dict)


SCALES = {
    "full": Scale(100, "small", 20, 10_000),
    "small": Scale(1, "original", 4, 1_000, {"vgg16": 0.25}),
}


@dataclass
class Laboratory:
    """Trains what a section asks for, and measures it."""

    recipe: Recipe
    data: CIFAR10DataModule
    scale: Scale
    given: str | None
    seed: int
    bundle: bool

    def classifier(self, architecture: Architecture, *, max_shift: int = 0) -> nn.Module:
        """Give a trained classifier, or the one that the user gave."""
        if self.given is not None:
            return load_classifier(self.given).to(_device())
        L.seed_everything(self.seed, verbose=False)
        module = ClassifierModule(
            self.data.in_channels,
            self.data.num_classes,
            architecture=architecture,
            stem=self.scale.stem,
            width=self.scale.widths.get(architecture, 1.0),
            learning_rate=2e-3,
            weight_decay=0.05,
            max_shift=max_shift,
            seed=self.seed,
        )
        stage = f"{architecture}-shifted" if max_shift else architecture
        self.recipe.fit(
            stage, module, self.data, epochs=self.scale.classifier_epochs, launcher_precision=True
        )
        return module.to(_device())

    def restorer(
        self, *, max_shift: int = 0, fill: ShiftFill = "circular"
    ) -> tuple[RestoreTransform, float]:
        """Give a trained restorer, and the seconds that training took."""
        L.seed_everything(self.seed, verbose=False)
        estimator = TranslationEstimator(self.data.in_channels, self.data.spatial_size, **NETWORK)
        module = RestorerModule(
            estimator, learning_rate=1e-2, max_shift=max_shift, fill=fill, seed=self.seed
        )
        stage = "restorer" if fill == "circular" else f"restorer-{fill}"
        seconds = self.recipe.fit(stage, module, self.data, epochs=self.scale.restorer_epochs)
        return RestoreTransform(estimator).to(_device()), seconds

    def measure(
        self,
        classifier: nn.Module,
        restorers: dict[str, Restorer],
        max_shifts: Sequence[int],
        *,
        kind: ShiftKind = "circular",
        num_images: int | None = None,
    ) -> list[ShiftResult]:
        """Measure accuracy against shift, in the precision of the launcher."""
        dataset = spread(self.data.dataset("test"), num_images)
        half = str(trainer_options().get("precision", "")).startswith("bf16")
        with torch.autocast(_device(), torch.bfloat16, enabled=half):
            return evaluate_shifts(
                classifier,
                dataset.loader(250),
                restorers=restorers,
                max_shifts=max_shifts,
                kind=kind,
                seed=self.seed,
            )


def restorer(lab: Laboratory) -> None:
    """How often the shift is found, that restored images are the same, and the weights."""
    restore, seconds = lab.restorer()
    if not is_rank_zero():
        return
    restore = restore.cpu()
    test = lab.data.dataset("test")
    border = RestoreTransform(blank_border_rule(3, lab.data.spatial_size, 4))
    found = {
        f"learned in {seconds:.0f} s": shifts_found(test, restore.estimate),
        "blank border": shifts_found(test, border.estimate),
        "largest seam": shifts_found(test, largest_seam),
    }
    rows = [{"estimator": name, **shares} for name, shares in found.items()]
    lab.recipe.add_rows("shifts found on test images", rows)
    lab.recipe.add_rows("restored images", [_invariance(lab, restore, range(21))])
    exact, near = next(iter(found.values())).values()
    lab.recipe.save_weights(
        "cifar10",
        restore.estimator,
        metrics={"exact": exact / 100, "within_1_pixel": near / 100},
        training_seconds=seconds,
        bundle=lab.bundle,
    )


def _invariance(
    lab: Laboratory, restore: RestoreTransform, max_shifts: Sequence[int]
) -> dict[str, Any]:
    differing = total = 0
    generator = torch.Generator().manual_seed(lab.seed)
    for images, _ in lab.data.dataset("test").loader(500):
        expected = restore(images)
        for size in max_shifts:
            moved = circular_shift(images, random_shift(len(images), size, generator=generator))
            differing += int((restore(moved) != expected).flatten(1).any(1).sum())
            total += len(images)
    sizes = f"{max_shifts[0]} … {max_shifts[-1]}"
    return {"shifts up to, pixels": sizes, "pairs": total, "differ from unshifted": differing}


def table1(lab: Laboratory) -> None:
    """Accuracy against shift, the same as Figure 1."""
    classifier = lab.classifier("resnet18")
    restore, _ = lab.restorer()
    if not is_rank_zero():
        return
    border = RestoreTransform(blank_border_rule(3, lab.data.spatial_size, 4))
    results = lab.measure(classifier, {"restored": restore, "blank border": border}, range(9))
    lab.recipe.add_results("table1", results, reference=PAPER_TABLE_1)
    curve = [result for result in results if result.restorer != "blank border"]
    lab.recipe.add_picture(
        draw_accuracy(
            lab.recipe.output / "figure1.png", {"": curve}, "CIFAR-10, ResNet-18, circular shifts"
        )
    )


def table2(lab: Laboratory) -> None:
    """Four architectures, shifts of up to 4 pixels."""
    restore, _ = lab.restorer()
    rows = []
    for architecture, paper in PAPER_TABLE_2.items():
        classifier = lab.classifier(architecture)
        if is_rank_zero():
            clean, clean_restored, shifted, restored = (
                100 * result.accuracy
                for result in lab.measure(classifier, {"restored": restore}, (0, 4))
            )
            rows.append(
                {
                    "architecture": architecture,
                    "unshifted": clean,
                    "unshifted, restored": clean_restored,
                    "shifted": shifted,
                    "shifted, restored": restored,
                    "lost by restoring": clean - clean_restored,
                    "paper: unshifted / shifted → restored": "{:.2f} / {:.2f} → {:.2f}".format(
                        *paper
                    ),
                }
            )
    if is_rank_zero():
        lab.recipe.add_rows("table2", rows)


def figure3(lab: Laboratory) -> None:
    """Images as they are, shifted and restored."""
    classifier = lab.classifier("resnet18")
    restore, _ = lab.restorer()
    if is_rank_zero():
        images = spread(lab.data.dataset("test"), 8).images
        pictures = [
            draw_restored(
                lab.recipe.output / "figure3.png",
                images,
                restore.cpu(),
                classifier.cpu().eval(),
                seed=lab.seed,
            ),
            animate(lab.recipe.output / "restored.gif", images[:6], restore),
        ]
        for picture in pictures:
            lab.recipe.add_picture(picture)


def figure4(lab: Laboratory) -> None:
    """Trained with and without images shifted by up to 4 pixels; tested up to 12."""
    restore, _ = lab.restorer()
    networks = {
        "plain": lab.classifier("resnet18"),
        "augmented": lab.classifier("resnet18", max_shift=4),
    }
    if not is_rank_zero():
        return
    curves = {}
    for name, classifier in networks.items():
        curves[name] = lab.measure(
            classifier, {"restored": restore}, range(0, 13, 2), num_images=lab.scale.num_images
        )
        lab.recipe.add_results(f"figure4, {name}", curves[name])
    title = "ResNet-18 trained without and with shifted images"
    lab.recipe.add_picture(draw_accuracy(lab.recipe.output / "figure4.png", curves, title))


def zeros(lab: Laboratory) -> None:
    """Shifts that lose what leaves; the border of 4 pixels is all that may leave unpunished."""
    classifier = lab.classifier("resnet18")
    restorers: dict[str, Restorer] = {"restored": lab.restorer()[0]}
    restorers["restored, trained on zero fill"] = lab.restorer(max_shift=8, fill="zeros")[0]
    if not is_rank_zero():
        return
    curves = {}
    kinds: tuple[ShiftKind, ...] = ("circular", "zeros")
    for kind in kinds:
        curves[kind] = lab.measure(
            classifier, restorers, range(0, 13, 2), kind=kind, num_images=lab.scale.num_images
        )
        lab.recipe.add_results(f"{kind} shifts", curves[kind])
    title = "CIFAR-10, ResNet-18, zero-fill shifts"
    path = lab.recipe.output / "zeros.png"
    lab.recipe.add_picture(draw_accuracy(path, {"": curves["zeros"]}, title))


def gate(lab: Laboratory) -> None:
    """What `min_margin` gains and costs."""
    classifier = lab.classifier("resnet18")
    restore, _ = lab.restorer()
    if is_rank_zero():
        dataset = spread(lab.data.dataset("test"), lab.scale.num_images)
        rows = gate_rows(classifier.cpu(), dataset, restore.cpu(), max_shift=4)
        lab.recipe.add_rows("gate", rows)


def cost(lab: Laboratory) -> None:
    """Time of the restorer in front of a ResNet-18 with a small stem, batch 256."""
    restore, _ = lab.restorer()
    if is_rank_zero():
        images = lab.data.dataset("test").images[:256].float().div(255).to(_device())
        network = build_classifier("resnet18", 3, 10).to(_device())
        row = share_of_time(restore.to(_device()), network, images)
        lab.recipe.add_rows("cost", [{"device": str(images.device), **row}])


SECTIONS = {
    "restorer": restorer,
    "table1": table1,
    "table2": table2,
    "figure3": figure3,
    "figure4": figure4,
    "zeros": zeros,
    "gate": gate,
    "cost": cost,
}


def main(
    data: Path = DATA,
    download: bool = False,
    scale: Literal["full", "small"] = "full",
    only: Sequence[Section] | Section = (),
    classifier: str | None = None,
    output: Path | None = None,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds CIFAR-10, in a form that `CIFAR10DataModule` takes; by default what
            EQRESTORE_DATA names, or data.
        download: Download CIFAR-10 if it is not there.
        scale: "full" for a GPU, "small" for a CPU.
        only: Section or sections to run; all by default.
        classifier: A trained one instead of each that would be trained, .ckpt or
            package.module:name, for images of 40 x 40.
        output: Folder for weights, pictures, tables and W&B's files; outputs/cifar10-SCALE.
        seed: Decides everything random.
        bundle: Put the weights into the package, as `cifar10`.
    """
    source = CIFAR10DataModule(data, download=download, batch_size=128, seed=seed)
    sections = [only] if isinstance(only, str) else only or SECTIONS
    recipe = Recipe(
        "cifar10",
        output or Path(f"outputs/cifar10-{scale}"),
        command=f"lightning run recipes/cifar10.py --scale {scale} --seed {seed}",
        seed=seed,
        tags=["translation", scale],
        config={
            "network": NETWORK,
            "scale": SCALES[scale].__dict__,
            "classifier": classifier or "trained here",
        },
    )
    laboratory = Laboratory(recipe, source, SCALES[scale], classifier, seed, bundle)
    for section in sections:
        SECTIONS[section](laboratory)
    if is_rank_zero():
        recipe.say(f"Images: {source.source or 'none were read'}")
        recipe.close()


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    auto_cli(main)
