"""How fast training and restoring are, each beside what it is to be compared with.

Parts, one by one with `--only`:

- `training` and `inference`: the paper's network (6 layers of 9 × 9, one channel) and the same
  network made of torch's own `Conv2d(padding_mode="circular")`;
- `crossover`: the methods of `circular_conv`, from which its rule was derived;
- `weights`: `RestoreTransform` with bundled weights (exact scores, ties, moving back), on
  scikit-learn's digits for weights of one channel, otherwise on noise, and the plain float32
  forward pass of the same weights; how much of the time moving back and, of rotations, polar
  sampling take;
- `photographs`: `photo` beside ResNet-18 on the same images;
- `sizes`: `photo` on images of 32 × 32 to 1,024 × 1,024 pixels, a million pixels at a time: time
  for each pixel, and the largest amount of memory in use beyond what was before.

What is compared is measured in one run, in turns; times are medians.

    python recipes/speed.py

All parts take more than ten minutes on 2 CPU cores, `crossover` most of it. Run it on an idle
machine.
"""

import resource
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from _run import Run, command_line, median_seconds
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, Timer
from torchvision.models import resnet18

from eqrestore_lightning import (
    DigitsDataModule,
    Estimator,
    RestoreTransform,
    RotationEstimator,
    build_preset,
    bundled_weights,
    to_polar,
)
from eqrestore_lightning.classifiers import build_classifier
from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.functional._circular_conv import ConvMethod
from eqrestore_lightning.functional._rotation import mass_offset

Part = Literal["training", "inference", "crossover", "weights", "photographs", "sizes"]
Rows = list[dict[str, Any]]
REFERENCE = 'Conv2d(padding_mode="circular")'
SIZES = (32, 64, 128, 224, 512, 1_024)
KERNELS = ((1, 3), (1, 9), (1, 15), (1, 32), (4, 9), (16, 3), (16, 5), (16, 9))
ROUNDS = 5


class Parts:
    """The parts of the recipe, a method each."""

    def __init__(self, batch_size: int, min_seconds: float, weights: Sequence[str]) -> None:
        self.batch_size, self.min_seconds, self.names = batch_size, min_seconds, weights

    def training(self) -> Rows:
        """Steps of training, each with the optimizer that goes with it."""
        images = torch.rand(self.batch_size, 1, 32, 32)
        target = torch.zeros(self.batch_size, dtype=torch.int64)
        ours = build_preset("paper", 1, (32, 32))
        theirs = reference_network(ours)

        def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            loss = F.cross_entropy(network(images).flatten(1), target)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()

        adamw = torch.optim.AdamW(ours.parameters(), lr=1e-4)
        adam = torch.optim.Adam(theirs.parameters(), lr=1e-4)
        name = f"{REFERENCE}, Adam"
        sides = {
            "TranslationEstimator, AdamW": partial(step, ours, adamw),
            name: partial(step, theirs, adam),
        }
        return self._rates(sides, name)

    @torch.no_grad()
    def inference(self) -> Rows:
        """Scores, and whole restoring; how many scores differ in any bit from the reference's."""
        images = torch.rand(self.batch_size, 1, 32, 32)
        images /= images.amax((1, 2, 3), keepdim=True)
        ours = build_preset("paper", 1, (32, 32))
        theirs = reference_network(ours)
        restore = RestoreTransform(ours)
        sides: dict[str, Callable[[], object]] = {
            "TranslationEstimator": partial(ours, images),
            REFERENCE: partial(theirs, images),
            "RestoreTransform": lambda: restore(images),
        }
        rows = self._rates(sides, REFERENCE)
        differing = int((ours(images).flatten(1) != theirs(images)).sum())
        counts = (f"{differing:,} of {self.batch_size * 32 * 32:,}", "", "")
        return [
            {**row, "scores that differ": count} for row, count in zip(rows, counts, strict=True)
        ]

    def crossover(self) -> Rows:
        """Methods of `circular_conv`, for a range of channels and kernels."""
        rows: Rows = []
        methods: tuple[ConvMethod, ...] = ("direct", "fft", "depthwise")
        for channels, size in KERNELS:
            x = torch.rand(self.batch_size, channels, 32, 32)
            weight = torch.rand(channels, channels, size, size)
            chosen = methods if channels == 1 else methods[:2]  # depthwise takes one channel
            forward, both = (
                self._seconds({each: partial(work, x, weight, method=each) for each in chosen})
                for work in (circular_conv, _backward)
            )
            rows += [
                {
                    "channels": channels,
                    "kernel": f"{size} × {size}",
                    "method": method,
                    "forward, ms": 1000 * forward[method],
                    "forward + backward, ms": 1000 * both[method],
                }
                for method in chosen
            ]
        return rows

    @torch.no_grad()
    def weights(self) -> Rows:
        """Restoring with trained weights, and the float32 forward pass of the same weights."""
        return [self._weights(name, RestoreTransform(name)) for name in self.names]

    @torch.no_grad()
    def photographs(self) -> Rows:
        """A restorer beside a classifier: torchvision's network, and one with a small stem."""
        rows: Rows = []
        restore = RestoreTransform("photo")
        small = build_classifier("resnet18", 3, 10)
        for count, size, network in ((16, 224, resnet18()), (self.batch_size, 32, small)):
            pixels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
            sides: dict[str, Callable[[], object]] = {
                "restoring": partial(restore.__call__, pixels),
                "classifying": partial(network.eval(), pixels.float() / 255),
            }
            restoring, classifying = self._seconds(sides).values()
            rows.append(
                {
                    "images": f"{count} × 3 × {size} × {size}",
                    "restoring, ms": 1_000 * restoring,
                    "ResNet-18, ms": 1_000 * classifying,
                    "restoring, % of ResNet-18": 100 * restoring / classifying,
                }
            )
        return rows

    def sizes(self) -> Rows:
        """Time and memory for images of many sizes, each in a process of its own."""
        rows: Rows = []
        for size in SIZES:
            with get_context("spawn").Pool(1) as pool:
                count, seconds, megabytes = pool.apply(restore_photographs, (size,))
            rows.append(
                {
                    "images": f"{count:,} × 3 × {size} × {size}",
                    "ms": 1_000 * seconds,
                    "ns for each pixel": 1e9 * seconds / (count * size**2),
                    "memory, MB": round(megabytes),
                }
            )
        return rows

    def _weights(self, name: str, restore: RestoreTransform) -> dict[str, Any]:
        estimator = restore.estimator
        size = estimator.spatial_size or (64, 64)
        count = max(1, self.batch_size // (32 if len(size) == 3 else 1))
        pixels = torch.randint(256, (count, estimator.in_channels, *size), dtype=torch.uint8)
        if estimator.in_channels == 1:  # in noise nearly all scores tie; these are digits
            pixels = _digits(count, size)
            count = len(pixels)
        found = restore.find(pixels)
        sides: dict[str, Callable[[], object]] = {
            "restoring": lambda: restore(pixels),
            "forward": partial(estimator, pixels.float() / 255),
            "back": partial(restore.undo, pixels, found),
        }
        rotation = getattr(estimator, "rotation", estimator)
        if isinstance(rotation, RotationEstimator):
            sides["polar"] = partial(_sample, rotation, pixels)
        seconds = {"polar": 0.0, **self._seconds(sides)}
        return {
            "weights": name,
            "images": f"{count} × {estimator.in_channels} × {' × '.join(map(str, size))}",
            "restoring, images/s": round(count / seconds["restoring"]),
            "float32 forward, images/s": round(count / seconds["forward"]),
            "ratio": seconds["forward"] / seconds["restoring"],
            "moving back, % of restoring": 100 * seconds["back"] / seconds["restoring"],
            "polar sampling, %": 100 * seconds["polar"] / seconds["restoring"],
        }

    def _rates(self, sides: Mapping[str, Callable[[], object]], reference: str) -> Rows:
        seconds = self._seconds(sides)
        return [
            {
                "network": name,
                "images/s": round(self.batch_size / seconds[name]),
                "ratio": seconds[reference] / seconds[name],
            }
            for name in sides
        ]

    def _seconds(self, sides: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Return the median time of each call; sides take turns, so that all are slowed alike."""
        threads = torch.get_num_threads()
        measured: dict[str, list[Measurement]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, work in sides.items():
                timer = Timer("work()", globals={"work": work}, num_threads=threads)
                part = timer.blocked_autorange(min_run_time=self.min_seconds / ROUNDS)
                measured[name].append(part)
        return {name: Measurement.merge(parts)[0].median for name, parts in measured.items()}


def main(
    only: Sequence[Part] = get_args(Part),
    weights: Sequence[str] = (),
    output: Path = Path("outputs/speed"),
    batch_size: int = 256,
    min_seconds: float = 2.0,
) -> None:
    """Run the recipe.

    Args:
        only: Parts to measure.
        weights: Names of bundled weights, or files; all bundled ones by default.
        output: Folder for tables and W&B's files.
        batch_size: Images at a time; of volumes a thirty-second of it.
        min_seconds: How long each side of a comparison is measured.
    """
    config = {"batch_size": batch_size, "threads": torch.get_num_threads()}
    run = Run("speed", output, tags=["speed"], config=config)
    parts = Parts(batch_size, min_seconds, weights or sorted(bundled_weights()))
    for part in only:
        run.add_table(part, getattr(parts, part)())
    run.close()


def restore_photographs(size: int) -> tuple[int, float, float]:
    """Return how many images were restored at a time, seconds, and megabytes more than before."""
    count = max(1, 2**20 // size**2)
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    restore = RestoreTransform("photo")
    restore(images[:1, :, :32, :32])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = median_seconds(lambda: restore(images))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return count, seconds, (after - before) / 1_024


def reference_network(estimator: Estimator) -> nn.Sequential:
    """Build the paper's network from torch's own layers, with the same weights."""
    layers: list[nn.Module] = []
    for weight in estimator.parameters():
        conv = nn.Conv2d(1, 1, 9, padding="same", padding_mode="circular", bias=False)
        conv.weight.data.copy_(weight.detach())
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Flatten(1))


def _digits(count: int, size: Sequence[int]) -> Tensor:
    """Return at most `count` of scikit-learn's digits; volumes are extruded in their middle."""
    digits = DigitsDataModule().dataset("train").images[:count]
    digits = F.interpolate(digits.float(), tuple(size[-2:]), mode="area").round().to(torch.uint8)
    if len(size) == 2:
        return digits
    volumes = digits.new_zeros(len(digits), 1, *size)
    volumes[:, :, size[0] // 3 : 2 * size[0] // 3] = digits.unsqueeze(2)
    return volumes


def _sample(estimator: RotationEstimator, x: Tensor) -> Tensor:
    return to_polar(
        x.float(),
        num_radii=estimator.num_radii,
        num_angles=estimator.num_angles,
        max_radius=estimator.max_radius,
        offset=mass_offset(x.double()) if estimator.center == "mass" else None,
    )


def _backward(x: Tensor, weight: Tensor, *, method: ConvMethod) -> None:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    torch.autograd.backward(circular_conv(x, weight, method=method).square().sum())


if __name__ == "__main__":
    command_line(main)
