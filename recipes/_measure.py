"""What tables need beside accuracy under shifts: shifts found, gates, seconds."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, circular_shift, random_shift
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.functional import circular_shift_error


def spread(dataset: ImageTensors, num_images: int | None) -> ImageTensors:
    """Give images from all over a data set, which may be sorted by class; all of them for None."""
    if num_images is None or num_images >= len(dataset):
        return dataset
    chosen = torch.arange(num_images) * len(dataset) // num_images
    return ImageTensors(dataset.images[chosen], dataset.labels[chosen])


@torch.no_grad()
def shifts_found(
    dataset: ImageTensors, estimate: Callable[[Tensor], Tensor], *, batch_size: int = 500
) -> dict[str, float]:
    """Shift every image at random, and say how often the shift is found.

    Args:
        dataset: Images, and labels that are not looked at.
        estimate: From images to shifts, int64 of shape `(batch, num_spatial_dims)`.
        batch_size: Images at a time.

    Returns:
        Percent found exactly, and within a pixel on each axis.
    """
    generator = torch.Generator().manual_seed(0)
    exact = near = 0
    for images, _ in dataset.loader(batch_size):
        size = images.shape[2:]
        shift = random_shift(
            len(images), max(size) // 2, num_spatial_dims=len(size), generator=generator
        )
        error = circular_shift_error(estimate(circular_shift(images, shift)), shift, size)
        exact += int((error == 0).all(1).sum())
        near += int((error <= 1).all(1).sum())
    return {"exact, %": 100 * exact / len(dataset), "≤ 1 px, %": 100 * near / len(dataset)}


@torch.no_grad()
def gate_rows(
    classifier: nn.Module,
    dataset: ImageTensors,
    restore: RestoreTransform,
    *,
    max_shift: int,
    quantiles: Sequence[float] = (0.0, 0.01, 0.02, 0.05, 0.1),
    batch_size: int = 250,
) -> list[dict[str, Any]]:
    """Measure what leaving images of small margin as they are gains and costs.

    Every shift of an image has the same margin and is restored to the same image, so that each
    image is restored once, whatever the number of gates.

    Args:
        classifier: From images to logits.
        dataset: Test images.
        restore: Without a gate.
        max_shift: Of the shifted images, pixels.
        quantiles: Share of the images whose margin shall be below the gate.
        batch_size: Images at a time.
    """
    classifier.eval()
    generator = torch.Generator().manual_seed(0)
    margins, right = [], []
    for images, labels in dataset.loader(batch_size):
        shift = random_shift(
            len(images), max_shift, num_spatial_dims=images.ndim - 2, generator=generator
        )
        views = images, circular_shift(images, shift), restore(images)
        right.append(torch.stack([classifier(view).argmax(1) == labels for view in views]))
        margins.append(restore.margin(images))
    margin = torch.cat(margins)
    unshifted, shifted, restored = torch.cat(right, dim=1)
    rows = []
    for q in quantiles:
        gate = float(margin.quantile(q)) if q else 0.0
        trusted = margin >= gate
        rows.append(
            {
                "`min_margin`": gate,
                "left as they are, %": _percent(~trusted),
                "accuracy, unshifted": _percent(torch.where(trusted, restored, unshifted)),
                f"accuracy, shifted up to {max_shift}": _percent(
                    torch.where(trusted, restored, shifted)
                ),
            }
        )
    return rows


def _percent(chosen: Tensor) -> float:
    return 100 * float(chosen.double().mean())


@torch.no_grad()
def share_of_time(
    restore: RestoreTransform, classifier: nn.Module, images: Tensor, *, repeats: int = 7
) -> dict[str, Any]:
    """Say what restoring adds to the time that a classifier takes, medians of alternating runs."""
    seconds: dict[str, list[float]] = {"restore": [], "classify": []}
    classifier.eval()
    for _ in range(repeats + 1):
        for name, network in (("restore", restore), ("classify", classifier)):
            _synchronise(images)
            start = time.perf_counter()
            network(images)
            _synchronise(images)
            seconds[name].append(time.perf_counter() - start)
    restoring, classifying = (sorted(times[1:])[repeats // 2] for times in seconds.values())
    return {
        "batch": len(images),
        "restoring, ms": 1000 * restoring,
        "classifying, ms": 1000 * classifying,
        "share of restoring, %": 100 * restoring / (restoring + classifying),
    }


def _synchronise(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize()
