"""What one GPU shows in ten minutes: the paper's accuracies, speed, and the same bits as a CPU.

Sections, one by one with `--only`:

- `accuracy`: the four networks of the paper's Table 2, each trained for `minutes`, with and without
  the restorer;
- `speed`: restoring with every bundled weights beside the float32 forward pass of the same weights,
  and `photo` beside ResNet-50 at 224 × 224 in half precision;
- `exactness`: restored images of the device, compared bit for bit with those of the CPU, and with
  those of unmoved images.

    python recipes/gpu.py --data data

It runs on a CPU as well, where `accuracy` takes as long and reaches less.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from _origin import hardware
from _run import DATA, Run, command_line, median_seconds
from cifar10 import DEVICE, SCALES, Sections
from torch import Tensor
from torchvision.models import resnet50

from eqrestore_lightning import CIFAR10DataModule, RestoreTransform, bundled_weights

Section: TypeAlias = Literal["accuracy", "speed", "exactness"]
Rows: TypeAlias = list[dict[str, Any]]


def main(
    data: Path = DATA,
    minutes: float = 1.5,
    only: Sequence[Section] = get_args(Section),
    batch_size: int = 256,
    num_images: int = 1_000,
    output: Path = Path("outputs/gpu"),
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains CIFAR-10; by default EQRESTORE_DATA, or data.
        minutes: How long to train each of the four networks.
        only: Sections to run; all by default.
        batch_size: Images at a time of `speed`; of volumes a thirty-second of it.
        num_images: Images for each weights of `exactness`; of volumes a thirty-second of it.
        output: Folder for tables and W&B's files.
        seed: Seed of everything random.
    """
    run = Run("gpu", output, seed=seed, tags=["gpu"], config={"minutes": minutes})
    run.say(f"Running on {hardware()}.")
    if "accuracy" in only:
        source = CIFAR10DataModule(data, batch_size=128, seed=seed)
        Sections(run, source, SCALES["paper"], minutes=minutes).table2()
    if "speed" in only:
        run.add_table("speed", [speed(name, batch_size) for name in sorted(bundled_weights())])
        run.add_table("photo beside ResNet-50", [beside_resnet50(max(1, batch_size // 4))])
    if "exactness" in only:
        generator = torch.Generator().manual_seed(seed)
        rows = [exactness(name, num_images, generator) for name in sorted(bundled_weights())]
        run.add_table("restored images that differ", rows)
    run.close()


@torch.no_grad()
def speed(name: str, batch_size: int) -> dict[str, Any]:
    """Compare restoring, exact, with the float32 forward pass of the same weights."""
    restore = RestoreTransform(name).to(DEVICE)
    images = noise(restore, batch_size).to(DEVICE)
    floats = images.float() / 255
    restoring = median_seconds(partial(restore, images))
    forward = median_seconds(partial(restore.estimator, floats))
    return {
        "weights": name,
        "images": " × ".join(map(str, images.shape)),
        "restoring, images/s": round(len(images) / restoring),
        "float32 forward, images/s": round(len(images) / forward),
        "ratio": forward / restoring,
    }


@torch.no_grad()
def beside_resnet50(batch_size: int) -> dict[str, Any]:
    """Compare `photo` with ResNet-50 on the same images of 224 × 224, in half precision."""
    restore = RestoreTransform("photo").to(DEVICE)
    dtype = torch.float16 if DEVICE == "cuda" else torch.bfloat16
    network: torch.nn.Module = resnet50().to(DEVICE, dtype, memory_format=torch.channels_last)
    images = torch.randint(256, (batch_size, 3, 224, 224), dtype=torch.uint8, device=DEVICE)
    pixels = (images / 255).to(dtype).contiguous(memory_format=torch.channels_last)
    restoring = median_seconds(partial(restore, images))
    classifying = median_seconds(partial(network.eval(), pixels))
    return {
        "images": " × ".join(map(str, images.shape)),
        "restoring, ms": 1000 * restoring,
        f"ResNet-50 in {str(dtype).removeprefix('torch.')}, ms": 1000 * classifying,
        "restoring, % of ResNet-50": 100 * restoring / classifying,
    }


def exactness(name: str, num_images: int, generator: torch.Generator) -> dict[str, Any]:
    """Count restored images that differ from the CPU's, and from those of unmoved images.

    The latter only where moving keeps all pixels, as shifts do: turning interpolates.
    """
    restore = RestoreTransform(name)
    images, motion = noise(restore, num_images), restore.estimator.motion
    element = motion.draw(len(images), images.shape[2:], generator=generator)
    moved = motion.apply(images, element)
    on_cpu = restore(moved)
    restore.to(DEVICE)
    on_device, unmoved = restore(moved.to(DEVICE)).cpu(), restore(images.to(DEVICE)).cpu()
    kept = torch.equal(motion.undo(moved, element), images)
    return {
        "weights": name,
        "images": len(images),
        f"{DEVICE} and CPU": differing(on_device, on_cpu),
        "moved and unmoved": str(differing(on_device, unmoved)) if kept else "-",
    }


def noise(restore: RestoreTransform, count: int) -> Tensor:
    """Return random images that weights take, uint8; of volumes a thirty-second of `count`."""
    size = restore.estimator.spatial_size or (64, 64)
    count = max(1, count // 32) if len(size) == 3 else count
    shape = (count, restore.estimator.in_channels, *size)
    return torch.randint(256, shape, dtype=torch.uint8)


def differing(first: Tensor, second: Tensor) -> int:
    """Return how many images of two batches differ in any bit."""
    return int((first != second).flatten(1).any(1).sum())


if __name__ == "__main__":
    command_line(main)
