"""Exact scores: float64 arithmetic, the largest score, and ties broken by content."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from eqrestore_lightning.functional._circular_conv import circular_conv, leading_bits
from eqrestore_lightning.functional._shift import check_scores

_NUM_PATTERNS = 3
_NUM_ROUNDS = 4
_BITS_PER_ROUND = 10


def as_float64(x: Tensor) -> Tensor:
    """Return `x` in float64; on the CPU where its device (Apple's MPS) has no float64.

    Args:
        x: Any shape, any real dtype.

    >>> as_float64(torch.tensor([3], dtype=torch.uint8))
    tensor([3.], dtype=torch.float64)
    """
    return (x.cpu() if x.device.type == "mps" else x).double()


def best_index(scores: Tensor, keys: Callable[[], Iterable[Tensor]]) -> Tensor:
    """Return the row-major index of each sample's largest score; ties are broken by keys.

    Among places with exactly equal scores the one with the largest first key is chosen, then the
    second, and so on. If the keys follow the image, as those of `content_keys` do, the choice
    follows it too, bit for bit; the lowest index would not.

    Args:
        scores: Shape `(batch, *places)`, floating.
        keys: Returns tensors with the shape of `scores`. Called only if some scores are equal:
            ties are rare, and finding them costs less than breaking them. A traced or compiled
            graph always calls it.

    Returns:
        int64 of shape `(batch,)`; 0 for samples whose scores are all NaN.

    Raises:
        ValueError: If `scores` has no places, or a key has another shape.

    >>> scores, key = torch.tensor([[5.0, 1.0, 5.0]]), torch.tensor([[3.0, 9.0, 4.0]])
    >>> best_index(scores, lambda: [key])
    tensor([2])
    """
    check_scores(scores)
    if torch.compiler.is_compiling() or _has_ties(scores):
        for key in keys():
            scores = _break_ties(scores, key)
    return scores.flatten(1).argmax(1)


def content_keys(x: Tensor) -> Iterator[Tensor]:
    """Correlate images with pseudo-random patterns, for every shift.

    Two shifts have the same keys only if the shifted images have the same leading 40 bits. The keys
    are exact and therefore bitwise equivariant.

    Args:
        x: Shape `(batch, channels, *spatial)`, float64.

    Yields:
        float64 of shape `(batch, *spatial)`, one key after another.

    >>> x = torch.tensor([[[5.0, 1.0, 4.0]]], dtype=torch.float64)
    >>> first, moved = next(content_keys(x)), next(content_keys(x.roll(1, 2)))
    >>> torch.equal(moved, first.roll(1, 1))
    True
    """
    patterns = torch.cat(
        [_pattern(x.shape[1:], seed=seed, device=x.device) for seed in range(_NUM_PATTERNS)]
    )
    for _ in range(_NUM_ROUNDS):  # an exact convolution sees the leading bits of its input
        yield from circular_conv(x, patterns, method="exact").unbind(1)
        x = x - leading_bits(x, _BITS_PER_ROUND)


def _break_ties(scores: Tensor, key: Tensor) -> Tensor:
    """Score the places with the largest score by `key` instead, and exclude the others."""
    if key.shape != scores.shape:
        raise ValueError(
            f"Expected `keys` to have the shape of `scores`, {tuple(scores.shape)}, "
            f"but got {tuple(key.shape)}."
        )
    return torch.where(scores == _largest(scores), key, -math.inf)


def _largest(scores: Tensor) -> Tensor:
    return scores.amax(tuple(range(1, scores.ndim)), keepdim=True)


def _has_ties(scores: Tensor) -> bool:
    return bool((scores == _largest(scores)).flatten(1).sum(1).gt(1).any())


def _pattern(shape: Sequence[int], *, seed: int, device: torch.device) -> Tensor:
    """Return a fixed filter of integers, the same on every machine and release of torch."""
    numbers = torch.arange(math.prod(shape), device=device) + (seed << 28) + 1
    for multiplier in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):  # Fibonacci hashing, MurmurHash3
        numbers = (numbers * multiplier) & 0xFFFFFFFF
        numbers = numbers ^ (numbers >> 15)
    return ((numbers & 0xFFF) - 0x800).double().reshape(1, *shape)
