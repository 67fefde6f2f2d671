"""A camera that moves by a few pixels, in front of a pretrained classifier: where to crop.

Photographs that wheels ship are resized as for ImageNet and photographed twice, through windows of
256 × 256 that lie up to 4 or 8 pixels apart on each axis (uniform, independent). Each picture is
cropped to 224 × 224 by itself, and classified. The first table says how often both crops show the
same pixels and get the same class, and how often the class is that of the center crop. The rows:

- center: `v2.CenterCrop`.
- canonical: `CanonicalCrop`.
- pattern: the window that correlates most with one fixed random pattern of its size.

The second table moves the camera by one pixel on each axis and changes both pictures besides, each
by itself: saved as JPEG, in noise, darker. It says how often the crops lie at the same place.

    pip install 'eqrestore-lightning[photographs]'
    python recipes/canonical_crop.py

With `--classifier resnet50`, or any other of torchvision's with weights, which are downloaded.
Takes several minutes on 2 CPU cores (AMD EPYC).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _data import load_photographs, pretrained_classifier
from _run import Run, command_line
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import CanonicalCrop

PICTURE, CROP = 256, 224
SLACK = PICTURE - CROP
MARGIN = 9  # pixels around each picture, so that the second one can lie elsewhere
Place = tuple[int, int]


def main(
    classifier: str = "efficientnet-lite0",
    leave_out: Sequence[str] = ("hubble_deep_field", "ihc", "retina"),
    pairs: int = 528,
    moves: Sequence[int] = (4, 8),
    short_side: tuple[int, int] = (288, 384),
    output: Path = Path("outputs/canonical_crop"),
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        classifier: "efficientnet-lite0", or the name of one of torchvision's with weights.
        leave_out: Photographs of these that no class of ImageNet fits: by default those of a
            telescope, a microscope and an eye.
        pairs: Pairs of pictures for each size of move.
        moves: Largest moves of the camera, pixels.
        short_side: Smallest and largest shorter side that a photograph is resized to, pixels;
            `[0, 0]` leaves the photographs as they are.
        output: Folder for tables and W&B's files.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    loaded = load_photographs()
    photographs = {name: x for name, x in loaded.items() if name not in leave_out}
    scenes = draw_scenes(list(photographs.values()), pairs, short_side, generator)
    settings = {"classifier": classifier, "pairs": pairs, "photographs": list(photographs)}
    run = Run("canonical_crop", output, seed=seed, config=settings)
    crop = CanonicalCrop(CROP)
    ways: dict[str, Callable[[Tensor], Place]] = {
        "center": lambda _: (SLACK // 2, SLACK // 2),
        "canonical": lambda picture: _place(crop.find(picture)),
        "pattern": Pattern(),
    }
    answer = Answers(pretrained_classifier(classifier), scenes)
    drawn = {
        most: torch.randint(-most, most + 1, (pairs, 2), generator=generator).tolist()
        for most in moves
    }
    table = [
        {"crop": row, "largest move (pixels)": most, **compare(way, scenes, moved, answer)}
        for row, way in ways.items()
        for most, moved in drawn.items()
    ]
    run.add_table("two pictures of a scene", table)
    changed = []
    for name, change in changes(generator).items():
        apart = distances(crop, scenes, change)
        same, near = (100 * mean(apart <= pixels) for pixels in (0, 1))
        changed.append(
            {"also changed by": name, "same place, %": same, "at most a pixel apart, %": near}
        )
    run.add_table("pictures that were changed as well", changed)
    run.close()


def draw_scenes(
    photographs: list[Tensor],
    number: int,
    short_side: tuple[int, int],
    generator: torch.Generator,
) -> list[Tensor]:
    """Draw parts of photographs in turns: pictures of 256 × 256, and 9 pixels around them."""
    size = PICTURE + 2 * MARGIN
    scenes = []
    for index in range(number):
        photograph = photographs[index % len(photographs)]
        if short_side[1] > 0:
            low, high = short_side
            drawn = int(torch.randint(low, high + 1, (), generator=generator))
            photograph = TF.resize(photograph, [drawn], antialias=True)
        free = torch.tensor(photograph.shape[1:]) - size + 1
        top, left = (torch.rand(2, generator=generator) * free).long().tolist()
        scenes.append(TF.crop(photograph, top, left, size, size))
    return scenes


def view(scene: Tensor, move: Sequence[int] = (0, 0)) -> Tensor:
    """Return the picture that the camera takes of a scene after a move."""
    picture: Tensor = TF.crop(scene, MARGIN + move[0], MARGIN + move[1], PICTURE, PICTURE)
    return picture


def compare(
    way: Callable[[Tensor], Place], scenes: list[Tensor], moves: list[Place], answer: "Answers"
) -> dict[str, float]:
    """Crop both pictures of each pair, and return how often they agree, by column."""
    start = time.process_time()
    places = [
        [way(view(scene, move)) for scene, move in zip(scenes, path, strict=True)]
        for path in ([(0, 0)] * len(moves), moves)
    ]
    milliseconds = 1e3 * (time.process_time() - start) / (2 * len(scenes))
    # Places in the scene, counted from the unmoved picture.
    second = [(p[0] + m[0], p[1] + m[1]) for p, m in zip(places[1], moves, strict=True)]
    same = torch.tensor([a == b for a, b in zip(places[0], second, strict=True)])
    one, other = answer(places[0]), answer(second)
    center = answer([(SLACK // 2, SLACK // 2)] * len(scenes))
    return {
        "same window, %": 100 * mean(same),
        "same class, %": 100 * mean(one == other),
        "class of the center crop, %": 100 * mean(one == center),
        "choosing, ms of CPU time": milliseconds,
    }


class Answers:
    """Classes of windows of the scenes; each window is classified once."""

    def __init__(self, classifier: nn.Module, scenes: list[Tensor]) -> None:
        self.classifier = classifier
        self.scenes = scenes
        self.known: dict[tuple[int, int, int], int] = {}

    @torch.no_grad()
    def __call__(self, windows: list[Place]) -> Tensor:
        """Classify one window of each scene, at a place counted from the unmoved picture."""
        keys = [(index, *window) for index, window in enumerate(windows)]
        todo = [key for key in keys if key not in self.known]
        for some in (todo[i : i + 32] for i in range(0, len(todo), 32)):
            crops = [
                TF.crop(self.scenes[index], MARGIN + top, MARGIN + left, CROP, CROP)
                for index, top, left in some
            ]
            classes = self.classifier(torch.stack(crops)).argmax(1).tolist()
            self.known.update(zip(some, classes, strict=True))
        return torch.tensor([self.known[key] for key in keys])


class Pattern:
    """Find the window that correlates most with one fixed random pattern of its size."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (CROP, CROP), generator=generator).double() * 2 - 1
        self.spectrum = torch.fft.rfft2(signs, s=(PICTURE, PICTURE)).conj()

    def __call__(self, picture: Tensor) -> Place:
        """Return its place, from exact sums of integers."""
        spectrum = torch.fft.rfft2(picture.double().sum(0)) * self.spectrum
        scores = torch.fft.irfft2(spectrum, s=(PICTURE, PICTURE)).round()
        return _argmax(scores[: SLACK + 1, : SLACK + 1])


def changes(generator: torch.Generator) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what happens to each of two pictures of the same scene, by name."""

    def noisy(picture: Tensor, sigma: float) -> Tensor:
        noise = torch.randn(picture.shape, generator=generator) * sigma
        return (picture + noise).round().clamp(0, 255).to(torch.uint8)

    def darker(picture: Tensor) -> Tensor:
        factor = 0.7 + 0.3 * torch.rand((), generator=generator)
        return (picture * factor).round().to(torch.uint8)

    return {
        "nothing": lambda picture: picture,
        "JPEG, quality 95": lambda picture: TF.jpeg(picture, 95),
        "JPEG, quality 75": lambda picture: TF.jpeg(picture, 75),
        "noise, standard deviation 2 of 255": lambda picture: noisy(picture, 2),
        "noise, standard deviation 8 of 255": lambda picture: noisy(picture, 8),
        "brightness 0.7 to 1": darker,
    }


def distances(
    crop: CanonicalCrop, scenes: list[Tensor], change: Callable[[Tensor], Tensor]
) -> Tensor:
    """Move the camera by a pixel on each axis, and return how far apart the two crops lie."""
    first = torch.stack([crop.find(change(view(scene))) for scene in scenes])
    second = torch.stack([crop.find(change(view(scene, (1, -1)))) for scene in scenes])
    return (second + torch.tensor([1, -1]) - first).abs().amax(1)


def mean(share: Tensor) -> float:
    """Return the share of entries that are true."""
    return float(share.double().mean())


def _argmax(scores: Tensor) -> Place:
    index, width = int(scores.argmax()), scores.shape[-1]
    return index // width, index % width


def _place(corner: Tensor) -> Place:
    top, left = corner.tolist()
    return top, left


if __name__ == "__main__":
    command_line(main)
