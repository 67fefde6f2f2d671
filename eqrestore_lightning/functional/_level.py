"""The lowest level of images: what tells whether they were normalized."""

import torch
from torch import Tensor

_RUN = 64  # entries that are averaged, so that a little noise about zero does not count


@torch.no_grad()
def lowest_level(x: Tensor) -> Tensor:
    """Compute how low images go: `min m / max |m|`, of the means `m` of 64 entries each.

    The entries of each mean follow one another in memory, so that noise counts little. The level
    does not depend on the unit: it is at least 0 for images in 0…1 or 0…255, and far below for
    those from which a mean was subtracted.

    Args:
        x: Images of any shape, any real dtype.

    Returns:
        From −1 to 1, float32, without axes; NaN if there are fewer than 64 entries, all are zero,
        or some are not finite.

    >>> lowest_level(torch.tensor([4.0, 0.0, -1.0]).repeat_interleave(64))
    tensor(-0.2500)
    """
    whole = x.numel() // _RUN * _RUN
    if not whole:
        return torch.full((), torch.nan, device=x.device)
    means = x.flatten()[:whole].float().reshape(-1, _RUN).mean(1)
    return means.amin() / means.abs().amax()
