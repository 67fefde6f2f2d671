"""Exact scores: float64 arithmetic, the largest score, and ties broken by content."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    if is_traced(scores) or _has_ties(scores):
        for key in keys():
            scores = _break_ties(scores, key)
    return scores.flatten(1).argmax(1)


def best_index_by_content(
    scores: Tensor, x: Tensor, to_image: Callable[[Tensor], Tensor] = as_float64
) -> Tensor:
    """Return the row-major index of each sample's largest score; ties are broken by its image.

    `best_index` with `content_keys` of the images whose scores tie. It also works where a graph is
    traced: compiled, exported or under `vmap` it is one operator, `eqrestore::best_index`, that
    looks for ties when it runs.

    Args:
        scores: Shape `(batch, *places)`, floating.
        x: The images scored, of shape `(batch, ...)`.
        to_image: Turns some of these images into float64 images of shape `(batch · copies,
            channels, *spatial)`, one or more for each: what was scored, place by place. If it has
            more places than there are scores, the first ones of each copy count.

    Returns:
        int64 of shape `(batch,)`, on the device of `scores`; 0 for samples whose scores are all
        NaN.

    Raises:
        ValueError: If `scores` has no places.

    >>> image = torch.tensor([[[3.0, 1.0, 3.0, 2.0]]])
    >>> scores = torch.tensor([[5.0, 1.0, 5.0, 0.0]])
    >>> first = best_index_by_content(scores, image)
    >>> moved = best_index_by_content(scores.roll(1, 1), image.roll(1, 2))
    >>> moved == (first + 1) % 4
    tensor([True])
    """
    check_scores(scores)
    if is_traced(scores):
        index: Tensor = _best_index_operator(scores, to_image(x))
        return index
    index = scores.flatten(1).argmax(1)
    tied = (scores == _largest(scores)).flatten(1).sum(1) > 1
    if tied.any():
        some = scores[tied]
        images = to_image(x[tied.to(x.device)])
        index[tied] = best_index(some, lambda: _keys_like(some, images))
    return index


@torch.library.custom_op("eqrestore::best_index", mutates_args=())
def _best_index_operator(scores: Tensor, image: Tensor) -> Tensor:
    return best_index(scores, lambda: _keys_like(scores, image))


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


def _keys_like(scores: Tensor, image: Tensor) -> Iterator[Tensor]:
    """Yield keys with the shape of the scores."""
    batch = scores.shape[0]
    copies = image.shape[0] // batch
    places = math.prod(scores.shape[1:]) // copies
    for key in content_keys(image):
        yield key.reshape(batch, copies, -1)[..., :places].reshape(scores.shape)


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
    x = x * binary_unit(x, 0).reciprocal()  # a power of two: far from where units end, 2^-900
    for _ in range(_NUM_ROUNDS):  # an exact convolution sees the leading bits of its input
        yield from circular_conv(x, patterns, method="exact").unbind(1)
        x = x - leading_bits(x, _BITS_PER_ROUND)


def content_hash(x: Tensor, weights: Tensor) -> Tensor:
    """Sum what images hold, weighted, modulo 2^64: exact, in any order.

    It serves where all images are compared as they stand; `content_keys` needs transforms, which
    integers modulo 2^64 do not have, and serves where a few are compared under every shift.

    Images that differ in any value have different sums with near certainty.

    Args:
        x: Shape `(batch, *shape)`, any real dtype.
        weights: What `hash_weights(shape)` returned, or the same, moved as images may be.

    Returns:
        int64 of shape `(batch,)`.

    >>> weights, x = hash_weights((1, 4, 4)), torch.rand(2, 1, 4, 4)
    >>> turned = content_hash(x.rot90(1, (2, 3)), weights.rot90(1, (1, 2)))
    >>> torch.equal(turned, content_hash(x, weights))
    True
    """
    if x.is_floating_point():
        x = (as_float64(x) + 0.0).view(torch.int64)  # -0.0 becomes 0.0
    return (x.long() * weights.to(x.device)).flatten(1).sum(1)


def hash_weights(shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """Return pseudo-random odd integers, the same on every machine and release of torch.

    Args:
        shape: Of the weights.
        device: On which they lie.

    Returns:
        int64.

    >>> bool((hash_weights((2, 3)) % 2 == 1).all())
    True
    """
    return 2 * _hashed(math.prod(shape), _NUM_PATTERNS, device).reshape(tuple(shape)) + 1


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
    numbers = _hashed(math.prod(shape), seed, device)
    return ((numbers & 0xFFF) - 0x800).double().reshape(1, *shape)


def _hashed(count: int, seed: int, device: torch.device | None) -> Tensor:
    """Return pseudo-random integers of 32 bits, int64."""
    numbers = torch.arange(count, device=device) + (seed << 28) + 1
    for multiplier in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):  # Fibonacci hashing, MurmurHash3
        numbers = (numbers * multiplier) & 0xFFFFFFFF
        numbers = numbers ^ (numbers >> 15)
    return numbers
