"""Exact scores: float64 arithmetic, the largest score, and ties broken by content."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from eqrestore_lightning.functional._circular_conv import circular_conv
from eqrestore_lightning.functional._exact_conv import binary_unit, leading_bits
from eqrestore_lightning.functional._shift import check_scores
from eqrestore_lightning.functional._traced import is_traced

_NUM_PATTERNS = 3
_NUM_ROUNDS = 4
_BITS_PER_ROUND = 10


def as_float64(x: Tensor) -> Tensor:
    """Return `x` in float64; on the CPU where its device (Apple's MPS) has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def best_index(
    scores: Tensor, x: Tensor, to_image: Callable[[Tensor], Tensor] = as_float64
) -> Tensor:
    """Return the row-major index of each sample's largest score; ties are broken by its image.

    Among equal scores the place with the largest first key of `content_keys` is chosen, then the
    second, and so on: the choice follows the image, bit for bit, which the lowest index would not.
    `to_image` turns some images into float64 images of shape `(batch · copies, channels, *spatial)`
    of what was scored; if it has more places than there are scores, the first ones count.
    """
    check_scores(scores)
    if is_traced(scores):  # one operator, which looks for ties when it runs
        index: Tensor = _best_index_operator(scores, to_image(x))
        return index
    index = scores.flatten(1).argmax(1)
    tied = _tied(scores)
    if tied.any():
        index[tied] = _best_key(scores[tied], to_image(x[tied.to(x.device)]))
    return index


@torch.library.custom_op("eqrestore::best_index", mutates_args=())
def _best_index_operator(scores: Tensor, image: Tensor) -> Tensor:
    return _best_key(scores, image) if _tied(scores).any() else scores.flatten(1).argmax(1)


@_best_index_operator.register_fake
def _(scores: Tensor, image: Tensor) -> Tensor:
    del image
    return scores.new_empty(scores.shape[0], dtype=torch.int64)


@_best_index_operator.register_vmap
def _(
    info: Any, in_dims: Sequence[int | None], scores: Tensor, image: Tensor
) -> tuple[Tensor, int]:
    moved = [
        each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
        for each, dim in zip((scores, image), in_dims, strict=True)
    ]
    index = _best_index_operator(*(each.flatten(0, 1) for each in moved))
    return index.unflatten(0, moved[0].shape[:2]), 0


def _best_key(scores: Tensor, image: Tensor) -> Tensor:
    """Return the index of the largest score, and of the largest key among equal ones."""
    batch = scores.shape[0]
    copies = image.shape[0] // batch
    places = math.prod(scores.shape[1:]) // copies
    for keys in content_keys(image):
        key = keys.reshape(batch, copies, -1)[..., :places].reshape(scores.shape)
        scores = torch.where(scores == _largest(scores), key, -math.inf)
    return scores.flatten(1).argmax(1)


def content_keys(x: Tensor) -> Iterator[Tensor]:
    """Yield float64 keys `(batch, *spatial)`, equal only for shifts whose leading 40 bits agree."""
    patterns = torch.cat(
        [_pattern(x.shape[1:], seed=seed, device=x.device) for seed in range(_NUM_PATTERNS)]
    )
    x = x * binary_unit(x, 0).reciprocal()  # a power of two: far from where units end, 2^-900
    for _ in range(_NUM_ROUNDS):  # an exact convolution sees the leading bits of its input
        yield from circular_conv(x, patterns, method="exact").unbind(1)
        x = x - leading_bits(x, _BITS_PER_ROUND)


def content_hash(x: Tensor, weights: Tensor) -> Tensor:
    """Sum what images hold, weighted, modulo 2^64: exact, in any order; int64 of shape `(batch,)`.

    It serves where all images are compared as they stand; `content_keys` needs transforms, which
    integers modulo 2^64 do not have, and serves where a few are compared under every shift.
    """
    if x.is_floating_point():
        x = (as_float64(x) + 0.0).view(torch.int64)  # -0.0 becomes 0.0
    return (x.long() * weights.to(x.device)).flatten(1).sum(1)


def hash_weights(shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """Return pseudo-random odd integers, the same on every machine and release of torch."""
    return 2 * _hashed(math.prod(shape), _NUM_PATTERNS, device).reshape(tuple(shape)) + 1


def _largest(scores: Tensor) -> Tensor:
    return scores.amax(tuple(range(1, scores.ndim)), keepdim=True)


def _tied(scores: Tensor) -> Tensor:
    """Check for which samples several places have the largest score, `(batch,)`."""
    return (scores == _largest(scores)).flatten(1).sum(1) > 1


def _pattern(shape: Sequence[int], *, seed: int, device: torch.device) -> Tensor:
    """Return a fixed filter of integers, the same on every machine and release of torch."""
    numbers = _hashed(math.prod(shape), seed, device)
    return ((numbers & 0xFFF) - 0x800).double().reshape(1, *shape)


def _hashed(count: int, seed: int, device: torch.device | None) -> Tensor:
    """Return pseudo-random integers of 32 bits, int64."""
    numbers = torch.arange(count, device=device) + (seed << 28) + 1
    for multiplier in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):  # Fibonacci hashing, MurmurHash3
        numbers = (numbers * multiplier) & 0xFFFFFFFF
        numbers = numbers ^ (numbers >> 15)
    return numbers
