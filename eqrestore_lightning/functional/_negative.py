"""How much of what images hold is negative: what tells whether they were normalized."""

import torch
from torch import Tensor


@torch.no_grad()
def negative_share(x: Tensor) -> Tensor:
    """Compute which share of all magnitudes is negative, `(1 − Σ x / Σ |x|) / 2`.

    It does not depend on the unit: 0 for images in 0…1 or 0…255, about a half for those from which
    a mean was subtracted, little for images with a little noise.

    Args:
        x: Images of any shape, any real dtype.

    Returns:
        From 0 to 1, float32, without axes; NaN if all entries are zero, or some are not finite.

    >>> negative_share(torch.tensor([3.0, 0.0, -1.0]))
    tensor(0.2500)
    """
    precise = x.float()
    return (1 - precise.sum() / precise.abs().sum()) / 2
