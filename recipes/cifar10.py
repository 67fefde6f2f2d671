"""The paper's CIFAR-10 experiments, a restorer in front of four frozen classifiers.

CIFAR-10 is padded with 4 zeros to 40 × 40, as in the paper. Sections, one by one with `--only`:

- `restorer`: how often the shift is found, beside rules that need no training, and whether restored
  images are the same for shifts of up to 0 … 20 pixels;
- `table1`: accuracy of ResNet-18 under circular shifts of up to 0 … 8 pixels, with and without the
  restorer: Figure 1;
- `table2`: VGG-16, ResNet-18, DenseNet-121 and MobileNet v2, shifts of up to 4 pixels;
- `figure3`: images as they are, shifted and restored, and an animation;
- `figure4`: ResNet-18 trained with and without shifted images, inside and beyond their range;
- `zeros`: shifts with zero fill, and an estimator trained on such shifts;
- `published`: what an ordinary network gains, beside shift-invariant ones as they were published;
- `gate`: what is gained and lost when images of small margin are left as they are;
- `cost`: share of the restorer in the time of a ResNet-18 with a small stem.

Each stage of training is kept in `output`, and saved every ten minutes: nothing is trained twice,
and an interrupted run goes on by the same command.

    lightning run recipes/cifar10.py --data data --scale paper
    lightning run recipes/cifar10.py --data data --scale paper --minutes 60
    lightning run recipes/cifar10.py --data data --scale small

`paper` trains the paper's networks with stems for small images, see `PaperClassifier`: for twenty
epochs each, or each for so many minutes. bfloat16 is used where the processor multiplies it fast,
and said. `small` is a first look: one epoch with torchvision's original stems, which reduce images
at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import lightning as L
import torch
from _data import CIFAR10_CLASSES, spread
from _figures import animate, draw_restored
from _origin import hardware
from _paper import (
    PAPER_TABLE_1,
    PAPER_TABLE_2,
    PUBLISHED,
    PaperClassifier,
    fastest_precision,
)
from _run import DATA, Run, command_line, is_rank_zero, median_seconds
from torch import Tensor, nn

from eqrestore_lightning import (
    CIFAR10DataModule,
    ClassifierModule,
    RestoreTransform,
    Shift,
    evaluate,
)
from eqrestore_lightning.classifiers import build_classifier
from eqrestore_lightning.classifiers._architectures import Architecture, Stem
from eqrestore_lightning.evaluation import Evaluation, shift_motions
from eqrestore_lightning.evaluation._found import count_differing, gate_rows
from eqrestore_lightning.evaluation._restorers import Restorer
from eqrestore_lightning.evaluation._rules import border_rule, seam_rules
from eqrestore_lightning.motions._shift import ShiftFill
from eqrestore_lightning.training._classifier import load_classifier
from eqrestore_lightning.training._launch import trainer_options

Section: TypeAlias = Literal[
    "restorer", "table1", "table2", "figure3", "figure4", "zeros", "published", "gate", "cost"
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Scale:
    """How long to train, what, and how many test images the longer curves are measured on."""

    classifier_epochs: int
    stem: Stem
    restorer_epochs: int
    num_images: int


SCALES = {"paper": Scale(20, "small", 20, 10_000), "small": Scale(1, "original", 4, 1_000)}


class Sections:
    """The sections of the recipe, a method each, and the stages that they share.

    Args:
        run: Keeps everything.
        data: Where images come from.
        scale: How long to train.
        minutes: How long to train each classifier instead of the epochs of `scale`.
        given: A trained classifier instead of each that would be trained.
        bundle: Whether to copy the weights into the package.
    """

    def __init__(
        self,
        run: Run,
        data: CIFAR10DataModule,
        scale: Scale,
        *,
        minutes: float | None = None,
        given: str | None = None,
        bundle: bool = False,
    ) -> None:
        self.run, self.data, self.scale, self.bundle = run, data, scale, bundle
        self.minutes, self.given = minutes, given
        self.precision = trainer_options().get("precision") or fastest_precision()

    def classifier(self, architecture: Architecture, *, max_shift: int = 0) -> nn.Module:
        """Return a trained classifier."""
        if self.given is not None:
            return load_classifier(self.given).to(DEVICE)
        L.seed_everything(self.run.seed, verbose=False)
        motion, small = Shift(max_shift=max_shift), self.scale.stem == "original"
        options: dict[str, Any] = {"architecture": architecture, "motion": motion}
        module = (
            ClassifierModule(3, 10, stem="original", learning_rate=2e-3, **options)
            if small
            else PaperClassifier(3, 10, **options)
        )
        stage = f"{architecture}-shifted" if max_shift else architecture
        self.run.fit(
            stage,
            module,
            self.data,
            epochs=None if self.minutes else self.scale.classifier_epochs,
            minutes=self.minutes,
            precision=self.precision,
            limit_val_batches=8,  # 1,000 images: a curve, which costs little of the time
        )
        return module.classifier.to(DEVICE)

    def restore(self, *, fill: ShiftFill = "circular") -> RestoreTransform:
        """Return a trained restorer; circular shifts teach it nothing, so they are not drawn."""
        circular = fill == "circular"
        restore = self.run.fit_restorer(
            "restorer" if circular else f"restorer-{fill}",
            self.data,
            "border",
            epochs=self.scale.restorer_epochs,
            motion=None if circular else Shift(max_shift=8, fill=fill),
        )
        restore.to(DEVICE)
        return restore

    def measure(
        self,
        classifier: nn.Module,
        restorers: Mapping[str, Restorer],
        sizes: Iterable[int],
        *,
        fill: ShiftFill = "circular",
    ) -> Evaluation:
        """Measure accuracy against shift, in the precision of training."""
        test = spread(self.data.dataset("test"), self.scale.num_images)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.precision.startswith("bf16")):
            return evaluate(
                classifier,
                test.loader(250),
                restorers=restorers,
                motions=shift_motions(sizes, fill=fill),
                seed=self.run.seed,
            )

    def restorer(self) -> None:
        """How often the shift is found, whether restored images are the same, and the weights."""
        restore = self.restore().cpu()
        if not is_rank_zero():
            return
        metrics = self.run.add_found(
            "shifts found on test images",
            self.data.dataset("test"),
            {
                f"learned in {self.run.seconds('restorer'):.0f} s": restore,
                **border_rule(3, self.data.spatial_size, 4),
                **seam_rules(3),
            },
        )
        self.run.add_table("restored images", [self._invariance(restore, range(21))])
        self.run.save_weights(
            "cifar10", restore.estimator, stage="restorer", metrics=metrics, bundle=self.bundle
        )

    def _invariance(self, restore: RestoreTransform, sizes: Sequence[int]) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(self.run.seed)

        def views(images: Tensor) -> Iterator[Tensor]:
            yield images
            for size in sizes:
                motion = Shift(max_shift=size)
                element = motion.draw(len(images), images.shape[2:], generator=generator)
                yield motion.apply(images, element)

        counts = count_differing(restore, self.data.dataset("test").images, views)
        return {"largest shift (pixels)": f"{sizes[0]} … {sizes[-1]}", **counts}

    def table1(self) -> None:
        """Accuracy against shift, the same as Figure 1."""
        classifier, restore = self.classifier("resnet18"), self.restore()
        if is_rank_zero():
            restorers: dict[str, Restorer] = {"restored": restore}
            restorers |= border_rule(3, self.data.spatial_size, 4)
            evaluation = self.measure(classifier, restorers, range(9))
            self.run.add_evaluation(
                "table1", evaluation, reference=PAPER_TABLE_1, picture="figure1.png"
            )

    def table2(self) -> None:
        """Four architectures, shifts of up to 4 pixels."""
        restore, rows = self.restore(), []
        for architecture, paper in PAPER_TABLE_2.items():
            classifier = self.classifier(architecture)
            if is_rank_zero():
                unshifted, unshifted_restored, shifted, restored = self.measure(
                    classifier, {"restored": restore}, (0, 4)
                ).results
                accuracies = {
                    "unshifted": unshifted,
                    "unshifted, restored": unshifted_restored,
                    "shifted": shifted,
                    "shifted, restored": restored,
                }
                row = {
                    name: 100 * result.measures["accuracy"] for name, result in accuracies.items()
                }
                rows.append(
                    {
                        "architecture": architecture,
                        **row,
                        "lost by restoring": row["unshifted"] - row["unshifted, restored"],
                        "stability, shifted": 100 * shifted.measures["stability"],
                        "stability, restored": 100 * restored.measures["stability"],
                        "training, hours": self.run.seconds(architecture) / 3600,
                        "paper: unshifted / shifted → restored": paper,
                    }
                )
        if is_rank_zero():
            self.run.add_table("table2", rows)

    def published(self) -> None:
        """ResNet-18 as it is and restored, beside shift-invariant networks as published."""
        classifier, restore = self.classifier("resnet18"), self.restore()
        if not is_rank_zero():
            return
        found: dict[str, list[float]] = {"ordinary, here": [], "ordinary, restored, here": []}
        for fill in ("zeros", "circular"):
            evaluation = self.measure(classifier, {"restored": restore}, (0, 4), fill=fill)
            for measured, result in zip(found.values(), evaluation.results[2:], strict=True):
                measured.append(100 * result.measures["consistency"])
            accuracies = [100 * result.measures["accuracy"] for result in evaluation.results[:2]]
        ours = {
            name: (accuracy, *consistencies)
            for (name, consistencies), accuracy in zip(found.items(), accuracies, strict=True)
        }
        columns = ("accuracy", "consistency, zero fill", "consistency, circular")
        self.run.add_table(
            "published",
            [
                {"ResNet-18": name, **dict(zip(columns, figures, strict=True))}
                for name, figures in {**ours, **PUBLISHED}.items()
            ],
        )

    def figure3(self) -> None:
        """Images as they are, shifted and restored."""
        classifier, restore = self.classifier("resnet18").cpu(), self.restore().cpu()
        if is_rank_zero():
            images, output = spread(self.data.dataset("test"), 8).images, self.run.output
            path = draw_restored(
                output / "figure3.png",
                images,
                restore,
                classifier,
                seed=self.run.seed,
                names=CIFAR10_CLASSES,
            )
            self.run.add_picture(path)
            self.run.add_picture(animate(output / "restored.gif", images[:6], restore))

    def figure4(self) -> None:
        """Trained with and without images shifted by up to 4 pixels; tested up to 12."""
        restore = self.restore()
        networks = {
            "plain": self.classifier("resnet18"),
            "augmented": self.classifier("resnet18", max_shift=4),
        }
        if not is_rank_zero():
            return
        results = []
        for name, classifier in networks.items():
            evaluation = self.measure(
                classifier,
                {"restored": restore},
                range(0, 13, 2),
            )
            results += [replace(r, restorer=f"{name}, {r.restorer}") for r in evaluation.results]
        both = replace(evaluation, results=results)
        self.run.add_evaluation("figure4", both, picture="figure4.png")

    def zeros(self) -> None:
        """Shifts with zero fill: beyond the border of 4 pixels, content is lost."""
        classifier = self.classifier("resnet18")
        restorers = {
            "restored": self.restore(),
            "restored, trained on zero fill": self.restore(fill="zeros"),
        }
        if is_rank_zero():
            for fill in get_args(ShiftFill):
                evaluation = self.measure(
                    classifier,
                    restorers,
                    range(0, 13, 2),
                    fill=fill,
                )
                self.run.add_evaluation(f"{fill} shifts", evaluation, picture=f"{fill}.png")

    def gate(self) -> None:
        """What `min_margin` gains and costs."""
        classifier, restore = self.classifier("resnet18").cpu(), self.restore().cpu()
        if is_rank_zero():
            test = spread(self.data.dataset("test"), self.scale.num_images)
            self.run.add_table(
                "gate", gate_rows(classifier, test, restore, motion=Shift(max_shift=4))
            )

    def cost(self) -> None:
        """Time of the restorer in front of a ResNet-18 with a small stem, batch 256."""
        restore = self.restore()
        if is_rank_zero():
            images = self.data.dataset("test").images[:256].float().div(255).to(DEVICE)
            network = build_classifier("resnet18", 3, 10).to(DEVICE).eval()
            with torch.no_grad():
                restoring = median_seconds(lambda: restore(images))
                classifying = median_seconds(lambda: network(images))
            row = {
                "device": DEVICE,
                "batch": len(images),
                "restoring, ms": 1000 * restoring,
                "classifying, ms": 1000 * classifying,
                "share of restoring, %": 100 * restoring / (restoring + classifying),
            }
            self.run.add_table("cost", [row])


def main(
    data: Path = DATA,
    download: bool = False,
    scale: Literal["paper", "small"] = "paper",
    minutes: float | None = None,
    only: Sequence[Section] | Section = (),
    classifier: str | None = None,
    output: Path | None = None,
    num_images: int | None = None,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains CIFAR-10, in a form that `CIFAR10DataModule` reads; by default
            EQRESTORE_DATA, or data.
        download: Download CIFAR-10 if it is missing.
        scale: "paper" for the paper's accuracies, "small" for a first look.
        minutes: Train each classifier for so many minutes rather than epochs.
        only: Section or sections to run; all by default.
        classifier: A trained one instead of each that would be trained, .ckpt or
            package.module:name, for images of 40 x 40.
        output: Folder for weights, pictures, tables and W&B's files; outputs/cifar10-SCALE.
        num_images: Test images that classifiers are measured on, from all over the test set; all of
            them by default, or a thousand where the scale is small.
        seed: Seed of everything random.
        bundle: Copy the weights into the package, as `cifar10`.
    """
    source = CIFAR10DataModule(data, download=download, batch_size=128, seed=seed)
    chosen = replace(SCALES[scale], num_images=num_images or SCALES[scale].num_images)
    config = {
        "scale": asdict(chosen),
        "minutes": minutes,
        "classifier": classifier or "trained here",
    }
    folder = output or Path(f"outputs/cifar10-{scale}")
    run = Run("cifar10", folder, seed=seed, tags=["translation", scale], config=config)
    sections = Sections(run, source, chosen, minutes=minutes, given=classifier, bundle=bundle)
    run.say(f"Classifiers are trained in {sections.precision} on {hardware()}.")
    for name in [only] if isinstance(only, str) else only or get_args(Section):
        getattr(sections, name)()
    if is_rank_zero():
        run.say(f"Images: {source.source or 'none were read'}")
        run.close()


if __name__ == "__main__":
    command_line(main)
