"""What tables need beside accuracy under shifts: shifts found, gates, seconds."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, circular_shift, evaluate_shifts, random_shift
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.functional import circular_shift_error


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

    Args:
        classifier: From images to logits.
        dataset: Test images.
        restore: Its estimator is used; gates are set anew.
        max_shift: Of the shifted images, pixels.
        quantiles: Share of the images whose margin shall be below the gate.
        batch_size: Images at a time.
    """
    margins = torch.cat([restore.margin(images) for images, _ in dataset.loader(batch_size)])
    gates = {
        q: RestoreTransform(restore.estimator, min_margin=float(margins.quantile(q)) if q else 0.0)
        for q in quantiles
    }
    results = evaluate_shifts(
        classifier,
        dataset.loader(batch_size),
        restorers={f"{q}": gate for q, gate in gates.items()},
        max_shifts=(0, max_shift),
    )
    rows = []
    for q, gate in gates.items():
        unshifted, shifted = (r for r in results if r.restorer == f"{q}")
        rows.append(
            {
                "`min_margin`": gate.min_margin,
                "left as they are, %": 100 * float((margins < gate.min_margin).double().mean()),
                "accuracy, unshifted": 100 * unshifted.accuracy,
                f"accuracy, shifted up to {max_shift}": 100 * shifted.accuracy,
            }
        )
    return rows


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
