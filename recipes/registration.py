"""By how much one picture lies against another: accuracy and speed, beside scikit-image.

Pairs are made from photographs that wheels ship: a part of 128 × 128, in gray, is shifted
circularly by any fraction of a pixel. Both pictures get their own noise, and a piece of another
photograph hides a square of the second one. Parts without content (standard deviation below 10 of
255) are drawn again. `skimage` refines to 1/100 pixel (`upsample_factor=100`). The last rows are
for pairs that do not wrap: two crops of one photograph that overlap, and strangers, which no shift
aligns. An estimate is wrong if it is more than 1.5 pixels off, and at 0 if it is at most 2 pixels.

    pip install 'eqrestore-lightning[recipes]'
    python recipes/registration.py

Takes about two minutes on 2 CPU cores (AMD EPYC).
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from _data import load_photographs
from _run import Run, command_line
from skimage.registration import phase_cross_correlation
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import circular_shift, find_between

SIZE = 128
Finder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
Row = dict[str, str | float]
Norm = Literal["phase"] | None


def main(
    pairs: int = 500,
    batch_size: int = 50,
    output: Path = Path("outputs/registration"),
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        pairs: Pairs of photographs.
        batch_size: Pairs of photographs at a time, for `find_between`.
        output: Folder for tables and W&B's files.
        seed: Of the draws.
    """
    run = Run("registration", output, seed=seed, config={"pairs": pairs})
    generator = torch.Generator().manual_seed(seed)
    run.add_table("photographs", list(photographs(pairs, batch_size, generator)))
    run.close()


def photographs(pairs: int, batch_size: int, generator: torch.Generator) -> Iterator[Row]:
    """Measure the errors of registering photographs, and what margins wrong estimates have."""
    finders = build_finders(batch_size)
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


def build_finders(batch_size: int) -> dict[str, Finder]:
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
                upsample_factor=100,
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


if __name__ == "__main__":
    command_line(main)
