"""Put turned photographs upright in front of a frozen classifier, without training anything.

Of all turned copies of a photograph, the one is taken of which the classifier is least uncertain
(`ConfidenceEstimator`). Prints, for quarter turns and any angle, how often the class is that of the
upright photograph: with no restorer, with the restorer, averaged over the copies (as people do
today), and told the angle; what a prior and a first look at the picture as it is save and cost; how
much depends on how pictures were turned and saved; and how many of all four quarter turns are not
restored to equal bits. Logs to W&B, and draws examples with the entropy under each copy.

    pip install 'eqrestore-lightning[photographs]'
    python recipes/turned_photographs.py
    python recipes/turned_photographs.py --images photos/ --network resnet18

The first takes EfficientNet-Lite0 and photographs that packages ship. `photos/` holds a folder of
upright photographs for each class, named by its number or name in ImageNet: then the accuracy is
printed as well. Any of torchvision's classifiers with weights will do (they are downloaded).
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from _data import load_photographs, pretrained_classifier, turned_ways
from _figures import STYLE, without_ticks
from _run import Run, command_line
from matplotlib import style
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet18_Weights
from torchvision.transforms.v2 import CenterCrop

from eqrestore_lightning import RestoreTransform, Turn
from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.evaluation._found import count_differing
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.nn import ConfidenceEstimator
from eqrestore_lightning.training import calibrate

Row: TypeAlias = dict[str, Any]
Section: TypeAlias = Literal["quarters", "angles", "traces", "bits"]

ANGLES = (4, 8, 12, 24)
UPRIGHT = ("astronaut", "chelsea", "china", "coffee", "flower", "motorcycle_left", "rocket")
SIZE, LARGE = 224, 320  # what the classifier sees; a picture that holds its corners however turned


@dataclass(frozen=True)
class Judge:
    """Compare answers with those for upright pictures, and with labels if there are any."""

    upright: Tensor
    labels: Tensor | None

    def row(self, name: str, **logits: Tensor) -> Row:
        """Return a row: shares of the answers for each state of the pictures, percent.

        Answers may be those for all pictures, several times over.
        """
        row: Row = {"": name}
        for state, answers in logits.items():
            for measure, right in (("class as upright", self.upright), ("accuracy", self.labels)):
                if right is not None:
                    same = answers.argmax(1) == right.repeat(len(answers) // len(right))
                    title = f"{state.replace('_', ' ')}: {measure}, %"
                    row[title] = 100 * float(same.double().mean())
        return row


def main(
    images: Path | None = None,
    network: str = "efficientnet-lite0",
    output: Path = Path("outputs/turned_photographs"),
    only: Section | None = None,
    count: int = 140,
    any_count: int = 28,
    num_bits: int = 1_000,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        images: Folder of class folders of upright photographs; by default those of packages.
        network: EfficientNet-Lite0, or the name of one of torchvision's classifiers.
        output: Folder for tables, the picture and W&B's files.
        only: The one part to run.
        count: Pictures turned by quarters.
        any_count: How many of them are turned by any angle as well.
        num_bits: Pictures of which all quarter turns are restored and compared bit for bit.
        seed: Decides everything random.
    """
    settings = {"count": count, "any_count": any_count, "num_bits": num_bits, "network": network}
    run = Run("turned_photographs", output, seed=seed, config=settings)
    classifier = pretrained_classifier(network).to(memory_format=torch.channels_last)
    large, labels = load(images, count, seed)
    if only in (None, "quarters"):
        add_quarters(run, classifier, CenterCrop(SIZE)(large), labels)
    few, few_labels = large[:any_count], None if labels is None else labels[:any_count]
    judge = Judge(in_parts(classifier, CenterCrop(SIZE)(few)).argmax(1), few_labels)
    generator = torch.Generator().manual_seed(seed)
    angle = Turn().draw(len(few), (SIZE, SIZE), generator=generator)["angle"]
    if only in (None, "angles"):
        rows = list(angle_rows(judge, classifier, few, angle))
        run.add_table(f"any angle, {len(few)} pictures", rows)
    if only in (None, "traces"):
        rows = list(trace_rows(judge, classifier, few, angle))
        run.add_table(f"turned and saved in several ways, {len(few)} pictures", rows)
    if only in (None, "bits"):
        run.add_table("equal bits", list(bit_rows(classifier, large, num_bits)))
    run.close()


def add_quarters(run: Run, classifier: nn.Module, view: Tensor, labels: Tensor | None) -> None:
    """Add everything about quarter turns of pictures of the size that the classifier sees."""
    estimator = ConfidenceEstimator(classifier)
    factor = calibrate(estimator, torch.split(view[::4], 16), seed=run.seed)
    run.say(f"Entropies times {factor:.2f} are log-probabilities, of every fourth picture.")
    start = time.perf_counter()
    answers = estimator.answers(view)
    run.say(f"4 copies: {(time.perf_counter() - start) / len(view):.2f} s a picture.")
    judge = Judge(answers[:, 0].argmax(1), labels)
    run.add_table(f"quarter turns of {len(view)} pictures", list(quarter_rows(judge, answers)))
    rows = list(certainty_rows(judge, answers))
    run.add_table("quarter turns, by how sure the classifier is of the upright picture", rows)
    rows = list(prior_rows(judge, estimator, view, answers))
    run.add_table("what a prior saves and costs, quarter turns", rows)
    run.add_table("what a first look saves and costs", list(look_rows(judge, answers)))
    run.add_picture(draw(run.output / "entropies.png", view[::20][:5], answers[::20][:5]))


def load(folder: Path | None, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return upright pictures, uint8 of shape `(count, 3, LARGE, LARGE)`, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    if folder is None:
        photographs = load_photographs()
        chosen = [photographs[UPRIGHT[index % len(UPRIGHT)]] for index in range(count)]
        return torch.stack([square(image, generator, 0.8) for image in chosen]), None
    files = ImageFolder(folder)
    names = ResNet18_Weights.DEFAULT.meta["categories"]
    classes = {name: index for index, name in enumerate(names)}
    classes |= {str(index): index for index in range(len(names))}
    if unknown := sorted(set(files.classes) - set(classes)):
        raise ValueError(f"Expected folders named after classes of ImageNet, but got {unknown}.")
    step = max(1, len(files.samples) // count)
    chosen = files.samples[::step][:count]
    labels = torch.tensor([classes[files.classes[label]] for _, label in chosen])
    return torch.stack([square(read_image(path), generator, 1.0) for path, _ in chosen]), labels


def square(image: Tensor, generator: torch.Generator, least: float) -> Tensor:
    """Cut a square of at least this share of the shorter side at random, and resize it."""
    short = min(image.shape[1:])
    share = least + (1 - least) * float(torch.rand((), generator=generator))
    side = min(short, max(LARGE, round(share * short)))
    down, right = (
        int(torch.randint(whole - side + 1, (), generator=generator)) for whole in image.shape[1:]
    )
    part = image[None, :, down : down + side, right : right + side].float()
    resized = F.interpolate(part, size=(LARGE, LARGE), mode="bilinear", antialias=True)
    return resized[0].round().byte()


def quarter_rows(judge: Judge, answers: Tensor) -> Iterator[Row]:
    """Compare what is made of the answers for all four copies of pictures turned by quarters."""
    turned = all_turns(answers)
    yield judge.row("no restorer", upright=answers[:, 0], turned=turned[:, 0])
    for name in ("negative_entropy", "log_largest_probability", "negative_energy"):
        sure = ConfidenceEstimator(nn.Identity(), confidence=name).confidence
        states = {"upright": pick(answers, sure), "turned": pick(turned, sure)}
        yield judge.row(name.replace("_", " "), **states)
    states = {"upright": average(answers), "turned": average(turned)}
    yield judge.row("average of the copies", **states)


def certainty_rows(judge: Judge, answers: Tensor) -> Iterator[Row]:
    """Compare pictures that the classifier knows with those that it does not."""
    sure = ConfidenceEstimator(nn.Identity()).confidence
    entropy = -sure(answers[:, 0])
    for least, most in ((0.0, 1.5), (1.5, 3.0), (3.0, math.inf)):
        chosen = (entropy >= least) & (entropy < most)
        turned = all_turns(answers[chosen])
        labels = None if judge.labels is None else judge.labels[chosen]
        states = {
            "no_restorer": turned[:, 0],
            "least_entropy": pick(turned, sure),
            "average": average(turned),
        }
        row = Judge(judge.upright[chosen], labels).row(f"{least} to {most} nats", **states)
        yield {"": row.pop(""), "pictures": int(chosen.sum()), **row}


def prior_rows(
    judge: Judge, estimator: ConfidenceEstimator, view: Tensor, answers: Tensor
) -> Iterator[Row]:
    """Measure what priors save upright pictures and cost turned ones."""
    turned = all_turns(answers)
    moved = torch.cat([torch.rot90(view, quarters, (2, 3)) for quarters in range(4)])
    scores = estimator.scale * estimator.confidence(turned)
    for prior in (None, 0.5, 0.8, 0.9, 0.99, 0.999):
        found = RestoreTransform(estimator, prior=prior).decide(moved, scores)
        place = found.motion["quarters"]
        chosen = turned[torch.arange(len(turned)), place]
        upright = slice(0, len(view))
        row = judge.row(f"prior={prior}", upright=chosen[upright], turned=chosen[len(view) :])
        row["upright ones turned, %"] = 100 * float((place[upright] != 0).double().mean())
        yield row


def look_rows(judge: Judge, answers: Tensor) -> Iterator[Row]:
    """Measure what a first look at the picture as it is saves and costs."""
    turned = all_turns(answers)
    sure = ConfidenceEstimator(nn.Identity()).confidence
    for most in (0.0, 0.5, 1.0, 2.0, 3.0):
        passed = sure(turned[:, 0]) >= -most
        chosen = torch.where(passed[:, None], turned[:, 0], pick(turned, sure))
        row = judge.row(
            f"look_first={most}", upright=chosen[: len(answers)], turned=chosen[len(answers) :]
        )
        passes = 1 + 4 * (~passed).double()
        row["passes, upright"] = float(passes[: len(answers)].mean())
        row["passes, turned"] = float(passes[len(answers) :].mean())
        classes = chosen.argmax(1).reshape(4, -1)
        row["classes of the four turns differ, %"] = 100 * float(
            (classes != classes[0]).any(0).double().mean()
        )
        yield row


@torch.no_grad()
def angle_rows(judge: Judge, classifier: nn.Module, large: Tensor, angle: Tensor) -> Iterator[Row]:
    """Compare grids of angles, for pictures that lost their corners when they were turned.

    Below them, for larger pictures, which are turned, then cropped: these still hold the corners.
    """
    element = {"angle": angle}
    cropped = nn.Sequential(CenterCrop(SIZE), classifier)
    for pixels, upright, most in ((SIZE, CenterCrop(SIZE)(large), max(ANGLES)), (LARGE, large, 12)):
        turned = Turn().apply(upright, element)
        for name, images in (("no restorer", turned), ("told", Turn().undo(turned, element))):
            answers = in_parts(cropped, images)
            yield {"pixels": pixels, **judge.row(name, turned=answers)}
        estimator = ConfidenceEstimator(cropped, num_angles=most)
        answers = estimator.answers(turned)
        for count in (count for count in ANGLES if most % count == 0):
            answer = pick(answers[:, :: most // count], estimator.confidence)
            yield {"pixels": pixels, **judge.row(f"least entropy of {count}", turned=answer)}
        answer = average(answers[:, :: most // 12])
        yield {"pixels": pixels, **judge.row("average of 12", turned=answer)}


def trace_rows(judge: Judge, classifier: nn.Module, large: Tensor, angle: Tensor) -> Iterator[Row]:
    """Compare ways of turning and saving: what they leave behind may not decide."""
    estimator = ConfidenceEstimator(classifier, num_angles=8)
    for name, turned in turned_ways(CenterCrop(SIZE)(large), angle).items():
        answers = estimator.answers(turned)
        row = judge.row(name, least_entropy=pick(answers, estimator.confidence))
        yield row | judge.row(name, average=average(answers))


def bit_rows(classifier: nn.Module, large: Tensor, count: int) -> Iterator[Row]:
    """Count pictures of which two quarter turns are restored to images that differ in any bit."""
    restore = RestoreTransform(ConfidenceEstimator(classifier))

    def turns(x: Tensor) -> Iterable[Tensor]:
        return (torch.rot90(x, quarters, (2, 3)) for quarters in range(4))

    for size, share, at_once in (((64, 64), 0.8, 50), ((48, 80), 0.2, 1)):
        number = int(share * count)
        generator = torch.Generator().manual_seed(0)
        crops = []
        for index in range(number):
            down, right = (
                int(torch.randint(LARGE - side + 1, (), generator=generator)) for side in size
            )
            picture = large[index % len(large)]
            crops.append(picture[:, down : down + size[0], right : right + size[1]])
        counted = count_differing(restore, torch.stack(crops), turns, batch_size=at_once)
        yield {"": f"crops of {size[0]} × {size[1]}", **counted}


def all_turns(answers: Tensor) -> Tensor:
    """Return the answers for the copies of all four quarter turns: the same four, in turn."""
    return torch.cat([answers.roll(quarters, 1) for quarters in range(4)])


def pick(answers: Tensor, confidence: Callable[[Tensor], Tensor]) -> Tensor:
    """Return, for each picture, the answer of which the classifier is surest."""
    return answers[torch.arange(len(answers)), confidence(answers).argmax(1)]


def average(answers: Tensor) -> Tensor:
    """Return the mean of the probabilities over the copies."""
    return answers.softmax(2).mean(1)


@torch.no_grad()
def in_parts(classifier: nn.Module, images: Tensor) -> Tensor:
    """Classify images, a few at a time."""
    return torch.cat([classifier(part) for part in torch.split(images, 16)])


def draw(path: Path, view: Tensor, answers: Tensor) -> Path:
    """Draw the four copies of some pictures, with the entropy of the answer for each."""
    log_probability = answers.log_softmax(2)
    entropy = -(log_probability.exp() * log_probability).sum(2)
    with style.context(STYLE):
        figure = Figure(figsize=(7, 1.9 * len(view)), layout="constrained")
        axes = figure.subplots(len(view), 4, squeeze=False)
        for line, picture, entropies in zip(axes, view, entropy, strict=True):
            for quarters, axis in enumerate(line):
                axis.imshow(torch.rot90(picture, -quarters, (1, 2)).permute(1, 2, 0).numpy())
                without_ticks(axis)
                least = quarters == int(entropies.argmin())
                axis.set_title(
                    f"{float(entropies[quarters]):.2f} nats",
                    fontsize=9,
                    color="C1" if least else "0.4",
                    fontweight="bold" if least else "normal",
                )
        figure.suptitle("Entropy of the answer for each copy; the least one is taken", fontsize=10)
        with whole_file(path) as part:
            figure.savefig(part)
    return path


if __name__ == "__main__":
    command_line(main)
