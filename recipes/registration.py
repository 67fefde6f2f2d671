"""By how much one picture lies against another: accuracy and speed, beside scikit-image.

Pairs are made from photographs that wheels ship: a part of 128 × 128, in gray, is shifted
circularly by any fraction of a pixel. Both pictures get their own noise, and a piece of another
photograph hides a square of the second one. Parts without content (standard deviation below 10 of
255) are drawn again. `skimage` refines to 1/100 pixel (`upsample_factor=100`). The last rows are
for pairs that do not wrap: two crops of one photograph that overlap, and strangers, which no shift
aligns. An estimate is wrong if it is more than 1.5 pixels off, and at 0 if it is at most 2 pixels.

Then test digits of MNIST in 32 × 32 are shifted circularly by any amount, registered against the
mean training image, moved back and classified by a small network that has seen unshifted digits
only.

    pip install 'eqrestore-lightning[recipes]'
    python recipes/registration.py

Takes about two minutes on 2 CPU cores (AMD EPYC).
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from _data import load_photographs
from _run import DATA, Run, command_line
from skimage.registration import phase_cross_correlation
from torch import Tensor, nn
from torchvision.datasets import MNIST
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import circular_shift, find_between

SIZE = 128
Finder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
Row = dict[str, str | float]
Norm = Literal["phase"] | None


def main(
    data: Path = DATA,
    pairs: int = 500,
    digits: int = 10_000,
    batch_size: int = 50,
    digits_batch_size: int = 500,
    output: Path = Path("outputs/registration"),
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw; by default what EQRESTORE_DATA names, or data.
        pairs: Pairs of photographs.
        digits: Test digits; 0 leaves this part out.
        batch_size: Pairs of photographs at a time, for `find_between`.
        digits_batch_size: Digits at a time.
        output: Folder for tables and W&B's files.
        seed: Of the draws.
    """
    run = Run("registration", output, seed=seed, config={"pairs": pairs, "digits": digits})
    generator = torch.Generator().manual_seed(seed)
    run.add_table("photographs", list(photographs(pairs, batch_size, generator)))
    if digits > 0:
        run.add_table("digits", list(mnist(data, digits, digits_batch_size, generator)))
    run.close()


def photographs(pairs: int, batch_size: int, generator: torch.Generator) -> Iterator[Row]:
    """Measure the errors of registering photographs, and what margins wrong estimates have."""
    finders = build_finders(batch_size, upsample_factor=100)
    for name, a, b, shift in draw_pairs(pairs, generator):
        for finder_name, finder in finders.items():
            start = time.process_time()
            found, margin = finder(a, b)
            speed = pairs / (time.process_time() - start)
            error = ((found - shift + SIZE / 2) % SIZE - SIZE / 2).norm(dim=1)
            wrong = error.isnan() | (error > 1.5)
            moved = found.abs().amax(1) > 2
            none = margin is None
            sure = torch.zeros_like(wrong) if margin is None else margin >= 0.05
            yield {
                "pairs": name,
                "found by": finder_name,
                "mean error, px": f"{error.mean():.3f}",
                "median": f"{error.median():.3f}",
                "wrong": int(wrong.sum()),
                "margin ≥ 0.05, %": "-" if none else f"{100 * sure.double().mean():.1f}",
                "mean error of these, px": "-" if none else f"{error[sure].mean():.3f}",
                "wrong of these": "-" if none else str(int((wrong & sure).sum())),
                "of these, not at 0": "-" if none else str(int((wrong & sure & moved).sum())),
                "pairs/s of CPU time": f"{speed:,.0f}",
            }


def draw_pairs(
    pairs: int, generator: torch.Generator
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Draw pairs of each kind: its name, both images, their shifts (NaN where none is right)."""
    images, _, _ = draw_parts(pairs, generator)
    whole = torch.randint(0, SIZE, (pairs, 2), generator=generator)
    yield "whole pixels", images, circular_shift(images, whole), whole
    shift = (torch.rand(pairs, 2, generator=generator) - 0.5) * SIZE
    moved = shift_between_pixels(images, shift)
    for name, noise, hidden in (
        ("as they are", 0.0, 0.0),
        ("noise, 13 of 255", 0.05, 0.0),
        ("10 % hidden", 0.0, 0.1),
        ("noise, and 10 % hidden", 0.05, 0.1),
        ("noise, and 25 % hidden", 0.05, 0.25),
    ):
        a, b = (x + noise * torch.randn(x.shape, generator=generator) for x in (images, moved))
        yield name, a, hide(b, b.roll(1, 0), hidden, generator), shift
    for reach in (SIZE // 10, SIZE // 4):
        yield f"crops, up to {reach} px apart", *draw_parts(pairs, generator, reach)
    yield "strangers", images, images.roll(1, 0), torch.full((pairs, 2), torch.nan)


def mnist(root: Path, number: int, batch_size: int, generator: torch.Generator) -> Iterator[Row]:
    """Measure how many shifted digits are classified correctly after registration."""
    train, test = (MNIST(root, train=part) for part in (True, False))
    x, labels = F.pad(train.data, [2] * 4).unsqueeze(1) / 255, train.targets
    digits, classes = F.pad(test.data, [2] * 4).unsqueeze(1)[:number] / 255, test.targets[:number]
    classifier = train_classifier(x, labels, generator)
    mean = x.mean(0, keepdim=True)
    shift = torch.randint(0, 32, (len(digits), 2), generator=generator)
    moved = circular_shift(digits, shift)
    for name, x in (("unshifted", digits), ("shifted", moved)):
        yield _row(name, accuracy(classifier, x, classes), "-")
    for name, finder in build_finders(batch_size, upsample_factor=1).items():
        start = time.process_time()
        found, _ = finder(mean, moved)
        speed = len(digits) / (time.process_time() - start)
        share = accuracy(classifier, circular_shift(moved, -found.round().long()), classes)
        yield _row(f"registered by {name}", share, f"{speed:,.0f}")


def _row(name: str, correct: float, speed: str) -> Row:
    return {"digits": name, "classified correctly, %": correct, "digits/s of CPU time": speed}


def build_finders(batch_size: int, *, upsample_factor: int) -> dict[str, Finder]:
    """Return what is compared, by name: shifts, positive as in `torch.roll`, and margins."""

    def ours(a: Tensor, b: Tensor, normalization: Norm) -> tuple[Tensor, Tensor | None]:
        parts = zip(*(torch.split(x, batch_size) for x in (a.expand_as(b), b)), strict=True)
        found = [find_between(one, other, normalization=normalization) for one, other in parts]
        return torch.cat([part.shift for part in found]), torch.cat([part.margin for part in found])

    def theirs(a: Tensor, b: Tensor, normalization: Norm) -> tuple[Tensor, Tensor | None]:
        found = []
        for one, other in zip(a.expand_as(b), b, strict=True):
            shift, _, _ = phase_cross_correlation(
                one[0].numpy(),
                other[0].numpy(),
                upsample_factor=upsample_factor,
                normalization=normalization,
            )
            found.append(-torch.as_tensor(shift, dtype=torch.float32))
        return torch.stack(found), None

    return {
        "`find_between`": lambda a, b: ours(a, b, None),
        '`find_between`, "phase"': lambda a, b: ours(a, b, "phase"),
        "skimage, `normalization=None`": lambda a, b: theirs(a, b, None),
        'skimage, "phase" (its default)': lambda a, b: theirs(a, b, "phase"),
    }


def draw_parts(
    number: int, generator: torch.Generator, reach: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw parts of photographs with something on them, floating from 0 to 1.

    Returns:
        The parts; others of the same photographs, up to `reach` pixels away; the shifts of these.
    """
    sources = [TF.rgb_to_grayscale(x)[0] / 255 for x in load_photographs().values()]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(parts) < number:
        source = sources[len(parts) % len(sources)]
        offset = torch.randint(-reach, reach + 1, (2,), generator=generator)
        free = torch.tensor(source.shape) - SIZE - offset.abs() + 1
        corner = (torch.rand(2, generator=generator) * free).long() + offset.clamp(max=0).abs()
        part, other = (
            source[top : top + SIZE, left : left + SIZE]
            for top, left in (corner.tolist(), (corner + offset).tolist())
        )
        if min(part.std(), other.std()) >= 10 / 255:
            parts.append((part, other, -offset))
    first, second, shift = (torch.stack(each) for each in zip(*parts, strict=True))
    return first.unsqueeze(1), second.unsqueeze(1), shift


def shift_between_pixels(images: Tensor, shift: Tensor) -> Tensor:
    """Shift images circularly by fractions of a pixel, through their spectra."""
    turns = (
        torch.fft.fftfreq(SIZE)[:, None] * shift[:, 0, None, None]
        + torch.fft.fftfreq(SIZE) * shift[:, 1, None, None]
    ).unsqueeze(1)
    phases = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    shifted: Tensor = torch.fft.ifft2(torch.fft.fft2(images) * phases).real
    return shifted


def hide(images: Tensor, others: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Put a square of another image into each image."""
    images = images.clone()
    side = round(SIZE * share**0.5)
    corners = torch.randint(0, SIZE - side + 1, (len(images), 2), generator=generator).tolist()
    for image, other, (top, left) in zip(images, others, corners, strict=True):
        image[:, top : top + side, left : left + side] = other[:, :side, :side]
    return images


def train_classifier(x: Tensor, labels: Tensor, generator: torch.Generator) -> nn.Module:
    """Train a small network on unshifted digits, for one epoch."""
    torch.manual_seed(generator.initial_seed())
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 64, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    order = torch.randperm(len(x), generator=generator)
    for indices in torch.split(order, 100):
        loss = F.cross_entropy(network(x[indices]), labels[indices])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(classifier: nn.Module, images: Tensor, classes: Tensor) -> float:
    """Return how many images are classified correctly, %."""
    answers = torch.cat([classifier(part).argmax(1) for part in torch.split(images, 500)])
    return 100 * float((answers == classes).double().mean())


if __name__ == "__main__":
    command_line(main)
