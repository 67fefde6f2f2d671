"""How fast circular convolution trains and restores, against torch's own.

Each comparison is made in one run, its two sides taking turns, and given as a ratio of medians.
`training` and `inference` compare the paper's network (6 layers of 9 × 9, one channel) as this
package evaluates it with the same network made of `Conv2d(padding_mode="circular")`; `crossover`
times the methods of `circular_conv`, from which its rule was made.

    python recipes/benchmark.py

Takes about a minute on 2 CPU cores (AMD EPYC). Run it on an idle machine.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from _recipe import hardware
from jsonargparse import auto_cli
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, TranslationEstimator, circular_conv
from eqrestore_lightning.functional import ConvMethod

Part = Literal["training", "inference", "crossover"]


def main(only: Sequence[Part] = get_args(Part), batch_size: int = 256, repeats: int = 31) -> None:
    """Run the recipe.

    Args:
        only: Parts to measure.
        batch_size: Images at a time.
        repeats: Times each side is measured.
    """
    print(f"{hardware()}; {torch.get_num_threads()} threads, torch {torch.__version__}")
    parts = {"training": _training, "inference": _inference, "crossover": _crossover}
    for part in only:
        print(f"\n{part}")
        parts[part](batch_size, repeats)


def reference_network(estimator: TranslationEstimator) -> nn.Sequential:
    """Build the paper's network as one would in torch alone, with the same weights."""
    layers: list[nn.Module] = []
    for weight in estimator.parameters():
        conv = nn.Conv2d(1, 1, 9, padding="same", padding_mode="circular", bias=False)
        conv.weight.data.copy_(weight.detach())
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Flatten(1))


def _training(batch_size: int, repeats: int) -> None:
    images = torch.rand(batch_size, 1, 32, 32)
    target = torch.zeros(batch_size, dtype=torch.int64)
    ours = TranslationEstimator(1, (32, 32))
    theirs = reference_network(ours)

    def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        loss = F.cross_entropy(network(images).flatten(1), target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    optimizers = (
        torch.optim.AdamW(ours.parameters(), lr=1e-4),
        torch.optim.Adam(theirs.parameters(), lr=1e-4),
    )
    _compare(
        {
            "TranslationEstimator, AdamW": lambda: step(ours, optimizers[0]),
            'Conv2d(padding_mode="circular"), Adam': lambda: step(theirs, optimizers[1]),
        },
        batch_size,
        repeats,
    )


@torch.no_grad()
def _inference(batch_size: int, repeats: int) -> None:
    images = torch.rand(batch_size, 1, 32, 32)
    images /= images.amax((1, 2, 3), keepdim=True)
    ours = TranslationEstimator(1, (32, 32))
    theirs = reference_network(ours)
    restore = RestoreTransform(ours)
    _compare(
        {
            "TranslationEstimator": lambda: ours(images),
            'Conv2d(padding_mode="circular")': lambda: theirs(images),
            "RestoreTransform (exact scores, ties, moving back)": lambda: restore(images),
        },
        batch_size,
        repeats,
    )
    different = int((ours(images).flatten(1) != theirs(images)).sum())
    print(f"scores that differ in any bit: {different} of {batch_size * 32 * 32}")


def _crossover(batch_size: int, repeats: int) -> None:
    print("| channels | kernel | method | forward, ms | forward + backward, ms |")
    print("|---|---|---|---|---|")
    methods: tuple[ConvMethod, ...] = ("direct", "fft", "depthwise")
    for channels, size in ((1, 3), (1, 9), (1, 15), (1, 32), (4, 9), (16, 3), (16, 5), (16, 9)):
        x = torch.rand(batch_size, channels, 32, 32)
        weight = torch.rand(channels, channels, size, size)
        for method in methods if channels == 1 else methods[:2]:
            forward = _median(partial(_forward, x, weight, method), repeats)
            both = _median(partial(_backward, x, weight, method), repeats)
            times = f"{1e3 * forward:.1f} | {1e3 * both:.1f}"
            print(f"| {channels} | {size} × {size} | {method} | {times} |")


@torch.no_grad()
def _forward(x: Tensor, weight: Tensor, method: ConvMethod) -> None:
    circular_conv(x, weight, method=method)


def _backward(x: Tensor, weight: Tensor, method: ConvMethod) -> None:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    torch.autograd.backward(circular_conv(x, weight, method=method).sum())


def _compare(sides: dict[str, Callable[[], object]], batch_size: int, repeats: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    names = list(sides)
    for name in names:
        print(f"{name}: {batch_size / medians[name]:,.0f} images/s")
    print(f"ratio of the first two: {medians[names[1]] / medians[names[0]]:.1f}")


def _median(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    auto_cli(main)
