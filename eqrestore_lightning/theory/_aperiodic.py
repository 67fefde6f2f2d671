"""Find images of a set that are shifts of one another, or of themselves."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 2**22  # entries hashed at a time


class Translate(NamedTuple):
    """`images[first].roll(shift, dims)` is `images[second]`; both are one for a periodic image."""

    first: int
    second: int
    shift: tuple[int, ...]


def is_aperiodic(images: Tensor) -> bool:
    """Check that no image is another one, or itself, circularly shifted.

    This is necessary and sufficient for an estimator to be correct on all of them (Theorem 4.5).
    Exact duplicates do no harm, as they belong in the same place.

    Args:
        images: Shape `(num_images, channels, *spatial)`, integers or bool.

    Returns:
        Whether `T^M x ≠ x'` for all `x`, `x'` and every `M ≠ 0`; exact. `find_translates` lists the
        images that violate it.

    Raises:
        TypeError: If `images` does not hold integers.
        ValueError: If `images` has no spatial axis or an empty one.

    Source: Definition 4.2.

    >>> image = torch.tensor([[[0, 1, 2, 0, 0]]])
    >>> is_aperiodic(torch.cat([image, image + 1]))
    True
    >>> is_aperiodic(torch.cat([image, image.roll(2, 2)]))
    False
    """
    return not any(any(found.shift) for found in find_translates(images))


@torch.no_grad()
def find_translates(images: Tensor) -> list[Translate]:
    """Find the images that are circular shifts of others or of themselves.

    Candidates share a sum of hashed neighborhoods, which no shift changes; they are then compared
    entry by entry. This takes time linear in the number of images, unless many images share that
    sum without being shifts of one another.

    Args:
        images: Shape `(num_images, channels, *spatial)`, integers or bool.

    Returns:
        Triples `first`, `second`, `shift` (pixels along each axis): `images[first]`, rolled by
        `shift`, is `images[second]`. For each image that is a shift of earlier ones an entry with
        the first of them (shift 0 for an exact duplicate, if there is a choice), and for each
        periodic image, constant ones among them, an entry with itself; sorted. Exact: all of them
        are found, and no others.

    Raises:
        TypeError: If `images` does not hold integers.
        ValueError: If `images` has no spatial axis or an empty one.

    Source: Definition 4.2.

    >>> image = torch.tensor([[[0, 1, 2, 0, 0, 0]]])
    >>> for found in find_translates(torch.cat([image, image.roll(-2, 2), image % 1])):
    ...     print(found)
    Translate(first=0, second=1, shift=(4,))
    Translate(first=2, second=2, shift=(3,))
    """
    if images.is_floating_point() or images.is_complex():
        raise TypeError(f"Expected `images` to be integers, but got {images.dtype}.")
    if images.ndim < 3 or 0 in images.shape[1:]:
        raise ValueError(
            f"Expected `images` to have shape (num_images, channels, *spatial) with no empty axis "
            f"except the first, but got {tuple(images.shape)}."
        )
    return sorted([*_periodic(images), *_translated(images)])


def _periodic(images: Tensor) -> Iterator[Translate]:
    """Find images that equal themselves shifted; then some shift of prime order keeps them."""
    spatial = images.shape[2:]
    unknown = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for shift in _shifts_of_prime_order(spatial):
        for start, part in _parts(images):
            same = (part.roll(shift, tuple(range(2, images.ndim))) == part).flatten(1).all(1)
            found = same & unknown[start : start + len(part)]
            for number in (found.nonzero().flatten() + start).tolist():
                yield Translate(number, number, shift)
            unknown[start : start + len(part)] &= ~same


def _translated(images: Tensor) -> Iterator[Translate]:
    keys = torch.cat([_hashes(part).flatten(1).sum(1) for _, part in _parts(images)])
    order = keys.argsort(stable=True)
    _, counts = torch.unique_consecutive(keys[order], return_counts=True)
    ends = counts.cumsum(0)
    shared = counts > 1
    for start, end in zip((ends - counts)[shared].tolist(), ends[shared].tolist(), strict=True):
        representatives: list[int] = []
        for number in order[start:end].tolist():
            for first in representatives:
                shift = _shift_between(images[first], images[number])
                if shift is not None:
                    yield Translate(first, number, shift)
                    break
            else:
                representatives.append(number)


def _shift_between(image: Tensor, other: Tensor) -> tuple[int, ...] | None:
    """Return the shift from `image` to `other`, trying the places of its rarest hash."""
    if torch.equal(image, other):
        return (0,) * (image.ndim - 1)
    size = image.shape[1:]
    hashes, other_hashes = _hashes(image.unsqueeze(0))[0], _hashes(other.unsqueeze(0))[0]
    values, counts = torch.unique(hashes, return_counts=True)
    rarest = values[counts.argmin()]
    anchor = (hashes == rarest).nonzero()[0]
    for place in (other_hashes == rarest).nonzero():
        shift = [(int(b) - int(a)) % n for a, b, n in zip(anchor, place, size, strict=True)]
        if torch.equal(image.roll(shift, tuple(range(1, image.ndim))), other):
            return tuple(shift)
    return None


def _hashes(images: Tensor) -> Tensor:
    """Hash every pixel with its channels and neighbors: `(batch, *spatial)`, equivariant."""
    mixed = torch.zeros_like(images[:, 0], dtype=torch.int64)
    for channel in images.unbind(1):
        mixed = _mix(mixed + channel.long())
    axes = range(1, mixed.ndim)
    for axis in axes:
        mixed = _mix(mixed + 3 * mixed.roll(1, axis) + 5 * mixed.roll(2, axis))
    return mixed


def _mix(numbers: Tensor) -> Tensor:
    """Scramble 64-bit integers, which wrap around (the finalizer of MurmurHash3)."""
    for multiplier in (-0x00AE502812AA7333, -0x3B314601E57A13AD):
        numbers = (numbers ^ (numbers >> 33)) * multiplier
    return numbers ^ (numbers >> 33)


def _parts(images: Tensor) -> Iterator[tuple[int, Tensor]]:
    size = max(1, _CHUNK // math.prod(images.shape[1:]))
    for start in range(0, max(len(images), 1), size):
        yield start, images[start : start + size]


def _shifts_of_prime_order(size: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """List one generator for every group of shifts that has a prime number of elements."""
    for prime in range(2, max(size) + 1):
        if any(prime % divisor == 0 for divisor in range(2, math.isqrt(prime) + 1)):
            continue
        steps = [n // prime if n % prime == 0 else 0 for n in size]
        movable = [axis for axis, step in enumerate(steps) if step]
        for leading, axis in enumerate(movable):  # the first entry that is not zero is one step
            others = movable[leading + 1 :]
            for number in range(prime ** len(others)):
                shift = [0] * len(size)
                shift[axis] = steps[axis]
                for place, other in enumerate(others):
                    shift[other] = number // prime**place % prime * steps[other]
                yield tuple(shift)
