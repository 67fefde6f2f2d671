"""Restore every circular shift of every MNIST test image, and compare bit for bit.

For 10,000 images and all 1,024 shifts the restored image must equal the one of the unshifted image:
10,240,000 pairs. `RestoreTransform` guarantees this by the arithmetic that it uses. Other ways to
evaluate the same network are counted beside it, on fewer images: for those it is not guaranteed.

    python recipes/invariance.py --data data

Takes 10 minutes on 2 CPU cores (AMD EPYC).
"""

from collections.abc import Callable
from pathlib import Path

import torch
from _recipe import DATA
from jsonargparse import auto_cli
from torch import Tensor
from tqdm import tqdm

from eqrestore_lightning import (
    MNISTDataModule,
    RestoreTransform,
    TranslationEstimator,
    circular_shift,
    load_estimator,
    scores_to_shift,
)
from eqrestore_lightning.functional import CONV_METHODS, ConvMethod


def main(
    data: Path = DATA,
    weights: str = "mnist",
    images: int = 10_000,
    other_images: int = 20,
    batch_size: int = 250,
    device: str = "cpu",
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds MNIST/raw; by default what EQRESTORE_DATA names, or data.
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        images: Test images restored under every shift by `RestoreTransform`.
        other_images: Test images restored by the other ways.
        batch_size: Images restored at a time.
        device: Where to restore, such as cpu or cuda.
    """
    pixels = MNISTDataModule(data).dataset("test").images.to(device)
    restore = RestoreTransform(weights).to(device)
    estimator = load_estimator(weights).to(device)
    if not isinstance(estimator, TranslationEstimator):
        raise TypeError(f"Expected weights for translations, but got a {type(estimator).__name__}.")
    print("| way to evaluate | images | pairs | restored images that differ |\n|---|---|---|---|")
    _row("RestoreTransform (exact)", pixels[:images], restore, batch_size)
    for method in CONV_METHODS:
        if method not in ("exact", "depthwise"):  # depthwise takes one channel
            _row(
                f"float32, {method}",
                pixels[:other_images],
                _plain(estimator, method=method),
                batch_size,
            )
    with torch.backends.mkldnn.flags(enabled=False):
        name = "float32, direct, without oneDNN"
        _row(name, pixels[:other_images], _plain(estimator, method="direct"), batch_size)
    name = "bfloat16, direct"
    plain = _plain(estimator, method="direct", dtype=torch.bfloat16)
    _row(name, pixels[:other_images], plain, batch_size)


def _row(name: str, images: Tensor, restore: Callable[[Tensor], Tensor], batch_size: int) -> None:
    height, width = images.shape[-2:]
    different = 0
    with torch.no_grad():
        for batch in tqdm(torch.split(images, batch_size), desc=name, leave=False):
            reference = restore(batch)
            for down in range(height):
                for right in range(width):
                    shifted = batch.roll((down, right), dims=(-2, -1))
                    different += int((restore(shifted) != reference).flatten(1).any(1).sum())
    pairs = len(images) * height * width
    print(f"| {name} | {len(images):,} | {pairs:,} | {different:,} |", flush=True)


def _plain(
    estimator: TranslationEstimator, *, method: ConvMethod, dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    """Restore by the first largest score of the network as it is evaluated in training."""
    network = TranslationEstimator(**estimator.config)
    network.load_state_dict(estimator.state_dict())
    network.to(next(estimator.parameters()).device, dtype)
    for layer in network.layers:
        setattr(layer, "method", method)  # noqa: B010  # a ModuleList does not know its type

    def restore(batch: Tensor) -> Tensor:
        scores = network(batch.to(dtype))
        return circular_shift(batch, -scores_to_shift(scores))

    return restore


if __name__ == "__main__":
    auto_cli(main)
