"""Restore every circular shift of every MNIST test image, and compare bit for bit.

For 10,000 images and all 1,024 shifts the restored image must equal that of the unshifted image:
10,240,000 pairs. `RestoreTransform` guarantees this by the arithmetic that it uses. Other ways to
evaluate the same network are counted beside it, on fewer images: for those it is not guaranteed.

    python recipes/invariance.py --data data

Takes 10 minutes on 2 CPU cores (AMD EPYC).
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _run import DATA, Run, command_line
from torch import Tensor
from tqdm import tqdm

from eqrestore_lightning import (
    MNISTDataModule,
    RestoreTransform,
    TranslationEstimator,
    circular_shift,
    load_estimator,
)
from eqrestore_lightning.evaluation._found import count_differing
from eqrestore_lightning.functional._circular_conv import CONV_METHODS, ConvMethod
from eqrestore_lightning.functional._shift import scores_to_shift
from eqrestore_lightning.nn import CircularConv


def main(
    data: Path = DATA,
    weights: str = "mnist",
    num_images: int = 10_000,
    num_other_images: int = 20,
    batch_size: int = 250,
    device: str = "cpu",
    output: Path = Path("outputs/invariance"),
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains MNIST/raw; by default EQRESTORE_DATA, or data.
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        num_images: Test images that `RestoreTransform` restores under every shift.
        num_other_images: Test images that are restored by the other ways.
        batch_size: Images restored at a time.
        device: Where to restore, such as cpu or cuda.
        output: Folder for tables and W&B's files.
    """
    config = {"weights": weights, "num_images": num_images, "num_other_images": num_other_images}
    run = Run("invariance", output, tags=["theory"], config={**config, "device": device})
    pixels = MNISTDataModule(data).dataset("test").images.to(device)
    restore = RestoreTransform(weights).to(device)
    rows = [count("RestoreTransform (exact)", pixels[:num_images], restore, batch_size)]
    others = pixels[:num_other_images]
    rows += [
        count(f"float32, {method}", others, plain(weights, method), batch_size)
        for method in CONV_METHODS
        if method not in ("exact", "depthwise")  # depthwise takes one channel
    ]
    with torch.backends.mkldnn.flags(enabled=False):
        name = "float32, direct, without oneDNN"
        rows.append(count(name, others, plain(weights, "direct"), batch_size))
    half = plain(weights, "direct", dtype=torch.bfloat16)
    rows.append(count("bfloat16, direct", others, half, batch_size))
    run.add_table("restored images that differ", rows)
    run.close()


def count(
    name: str, images: Tensor, restore: Callable[[Tensor], Tensor], batch_size: int
) -> dict[str, Any]:
    """Restore all shifts of images, and count those that differ from the unshifted one restored."""
    shifts = list(itertools.product(*map(range, images.shape[-2:])))

    def views(batch: Tensor) -> Iterator[Tensor]:
        for shift in [(0, 0), *tqdm(shifts, desc=name, leave=False)]:
            yield batch.roll(shift, dims=(-2, -1))

    return {
        "way to evaluate": name,
        **count_differing(restore, images, views, batch_size=batch_size),
    }


def plain(
    weights: str, method: ConvMethod, *, dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    """Return a restorer by the first largest score of the network as training evaluates it."""
    network = load_estimator(weights).to(dtype=dtype)
    if not isinstance(network, TranslationEstimator):
        raise TypeError(f"Expected weights for translations, but got a {type(network).__name__}.")
    for layer in network.layers:
        if isinstance(layer, CircularConv):
            layer.method = method

    def restore(batch: Tensor) -> Tensor:
        scores = network.to(batch.device)(batch.to(dtype))
        return circular_shift(batch, -scores_to_shift(scores))

    return restore


if __name__ == "__main__":
    command_line(main)
