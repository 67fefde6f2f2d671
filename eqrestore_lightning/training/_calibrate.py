"""Make scores mean what they say."""

from collections.abc import Iterable

import torch
from torch import Tensor

from eqrestore_lightning.motions import Element, Motion
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.training._draw import motion_argument

_REACH = 20.0  # largest factor either way
_STEPS = 60


@torch.no_grad()
def calibrate(
    estimator: Estimator,
    batches: Iterable[Tensor],
    *,
    motion: Motion | None = None,
    seed: int = 0,
) -> float:
    """Scale an estimator's scores so that they are log-probabilities on images not trained on.

    Networks are too sure of what they were trained on, and an average over copies is less sure than
    it could be. Estimates stay the same; margins become log-odds that can be added to those of a
    `prior`.

    Args:
        estimator: Its scores are multiplied by a factor, in place.
        batches: Images as training takes them, not moved, but not trained on.
        motion: What they are moved by, at random; by default `estimator.training_motion`.
        seed: Decides the draws.

    Returns:
        The factor, from 1/20 to 20: it minimizes the cross-entropy.

    Raises:
        ValueError: If there are no images, or scores are not finite.

    Source: Temperature scaling (Guo et al., 2017).
    """
    motion = motion_argument(motion, estimator.training_motion)
    generator = torch.Generator().manual_seed(seed)
    scored: list[tuple[Tensor, Element]] = []
    for x in batches:
        element = motion.draw(len(x), tuple(x.shape[2:]), generator=generator)
        element = {name: value.to(x.device) for name, value in element.items()}
        scored.append((estimator.exact_scores(motion.apply(x, element)), element))
    total = sum(len(scores) for scores, _ in scored)
    if not total:
        raise ValueError("Expected at least one image to calibrate with, but got none.")
    if not all(bool(scores.isfinite().all()) for scores, _ in scored):
        raise ValueError("Expected images with finite scores, but got others.")

    def loss(exponent: float) -> float:
        factor = _REACH**exponent
        losses = [estimator.loss(factor * s, e).mul(len(s)) for s, e in scored]
        return float(torch.stack(losses).sum()) / total

    low, high = -1.0, 1.0  # the loss is convex in the factor: one minimum
    for _ in range(_STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    factor = float(_REACH ** ((low + high) / 2))
    estimator.scale_scores(factor)
    return factor
