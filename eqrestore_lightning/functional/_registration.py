"""The shift of one image relative to another."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from eqrestore_lightning.functional._shift import scores_to_shift

Normalization: TypeAlias = Literal["phase"]

_NEWTON_STEPS = 5
_LONGEST_STEP, _SHORTEST_STEP = 0.5, 1e-4  # pixels


class Registration(NamedTuple):
    """How each image of a batch is shifted relative to its partner.

    Attributes:
        shift: Pixels, floating of shape `(batch, num_axes)`; positive as in `torch.roll`.
        margin: Floating of shape `(batch,)`, from 0 (a guess) to 1 (all phases agree on `shift`).
    """

    shift: Tensor
    margin: Tensor


@torch.no_grad()
def find_between(
    a: Tensor,
    b: Tensor,
    *,
    axes: Sequence[int] | None = None,
    normalization: Normalization | None = None,
) -> Registration:
    r"""Find the circular shift of each image of `b` relative to that of `a`.

    The largest entry of the circular cross-correlation `c(s) = Σ_i a[i] b[i + s]`, summed over
    channels and over the axes that are not shifted, each without its mean. Its place is refined to
    fractions of a pixel by Newton's method on the trigonometric polynomial through all entries.

    Convention:
        `b` is `a` rolled by `shift`, so `circular_shift(b, -shift)` is aligned with `a`. Along an
        axis of size `n` shifts run from `-n / 2` to `n / 2`. For angles, compare
        `find_between(to_polar(a), to_polar(b), axes=(-1,))`: its shift times `360° / num_angles` is
        the counter-clockwise rotation of `b` relative to `a`.

    Args:
        a: Images of shape `(batch, channels, *spatial)` with one to three spatial axes, any real
            dtype; or one image, `(1, channels, *spatial)`, for the whole batch.
        b: Images of shape `(batch, channels, *spatial)`, any real dtype.
        axes: Axes that are shifted, negative as `(-2, -1)`; by default all spatial ones.
        normalization: `None` correlates the images as they are: best against noise, and against
            partners that are not the same picture, such as a mean image. `"phase"` gives all
            frequencies the same weight (phase correlation): a sharper peak, for pictures that are
            the same but for their exposure.

    Returns:
        `shift`, floating of shape `(batch, num_axes)` in the order of `axes`, and `margin`,
        floating of shape `(batch,)`; float64 if `a` or `b` is, else float32; approximate. The
        margin is by how much the phase correlation within a pixel of the place found exceeds all
        its other local maxima, at least 0: 1 for copies, below 0.05 a guess. It is also low where
        the shift is right but the partner is noisy or another picture. Crops that do not wrap can
        be wrong with more, mostly near shift 0, where their seams agree: 4 of 300 pairs up to 12 of
        128 pixels apart, 2 up to 32 (`"phase"`: 3 and 5; `recipes/registration.py --pairs 300`).
        Where an image is uniform along `axes` or not finite both are 0.

    Raises:
        TypeError: If `a` or `b` is complex.
        ValueError: If the shapes do not match, `axes` are not distinct spatial axes, or
            `normalization` is unknown.

    >>> a = torch.tensor([[[[0.0, 0, 0, 0, 0], [0, 3, 1, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 0, 0]]]])
    >>> shift, margin = find_between(a, a.roll((1, -2), (2, 3)))
    >>> shift.round().long()
    tensor([[ 1, -2]])
    """
    axes = _check(a, b, axes, normalization)
    dtype = torch.float64 if torch.float64 in (a.dtype, b.dtype) else torch.float32
    a, b = (_prepare(x, axes, dtype) for x in (a, b))
    if len(b) == 0:  # torch 2.14 raises on an empty transform
        return Registration(b.new_zeros(0, len(axes)), b.new_zeros(0))
    sizes = b.shape[2:]
    dims = tuple(range(-len(axes), 0))
    spectra = [torch.fft.rfftn(x, dim=dims) for x in (a, b)]
    spectrum = (spectra[0].conj() * spectra[1]).sum(1)
    phases, number = _whiten(spectrum, spectra, sizes[-1])
    agreeing = correlation = torch.fft.irfftn(phases, s=sizes, dim=dims, norm="forward")
    if normalization is None:
        correlation = torch.fft.irfftn(spectrum, s=sizes, dim=dims)
    else:
        spectrum = phases
    start = scores_to_shift(correlation)
    shift = _refine(spectrum, start.to(dtype), sizes)
    margin = _margin(agreeing, start) / number
    known = number > 0
    return Registration(torch.where(known[:, None], shift, 0), torch.where(known, margin, 0))


def _prepare(x: Tensor, axes: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return shape `(batch, everything else, *shifted axes)`: means over these axes 0, norm 1."""
    x = x.to(dtype).movedim(axes, tuple(range(-len(axes), 0))).flatten(1, -len(axes) - 1)
    x = x - x.mean(tuple(range(2, x.ndim)), keepdim=True)
    norm = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)
    return x.div(norm.clamp(min=torch.finfo(dtype).tiny))


def _whiten(spectrum: Tensor, spectra: Sequence[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Set the magnitude of all frequencies to 1 that hold more than rounding errors in both images.

    Returns:
        The spectrum, and the number of these frequencies, shape `(batch,)`.
    """
    floor = (100 * torch.finfo(spectrum.dtype).eps) ** 2  # images have norm 1: mean power is 1
    kept = (_power(spectra[0]).sum(1) > floor) & (_power(spectra[1]).sum(1) > floor)
    kept.flatten(1)[:, 0] = False  # the means, which carry no information about the shift
    scale = _power(spectrum).clamp(min=torch.finfo(spectrum.dtype).tiny).rsqrt()
    number = (kept.to(scale.dtype) @ _multiplicity(size, scale)).reshape(len(kept), -1).sum(1)
    return spectrum * torch.where(kept, scale, 0), number


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()  # much faster than `abs()`


def _multiplicity(size: int, power: Tensor) -> Tensor:
    """Return how often each entry of a real transform's last axis occurs in the full transform."""
    count = power.new_ones(size // 2 + 1)
    count[1 : (size + 1) // 2] = 2
    return count


def _refine(spectrum: Tensor, start: Tensor, sizes: Sequence[int]) -> Tensor:
    """Climb from the best pixel to the maximum between pixels."""
    spectrum = spectrum * _multiplicity(sizes[-1], start)
    powers = []
    for axis, size in enumerate(sizes):
        frequency = 2 * math.pi * torch.fft.fftfreq(size, dtype=start.dtype, device=start.device)
        frequency = frequency[: spectrum.shape[axis + 1]]  # half of them along the last axis
        if size % 2 == 0:  # the phase of the highest one does not show the direction of a shift
            spectrum.select(axis + 1, size // 2).zero_()
        powers.append(torch.stack([frequency**0 + 0j, 1j * frequency, -(frequency**2) + 0j]))
    value, gradient, hessian = _derivatives(spectrum, start, powers)
    shift, before = start, value
    for _ in range(_NEWTON_STEPS):
        flat = (hessian.diagonal(dim1=1, dim2=2) == 0).to(hessian.dtype).diag_embed()
        factor, failed = torch.linalg.cholesky_ex(flat - hessian)
        newton = torch.cholesky_solve(gradient.unsqueeze(2), factor).squeeze(2)
        uphill = gradient / (hessian.abs().sum(2) + flat.sum(2))  # where it is not concave
        step = torch.where(failed[:, None] == 0, newton, uphill)
        shift = shift + step.clamp(-_LONGEST_STEP, _LONGEST_STEP)
        if not (step.abs() > _SHORTEST_STEP).any():  # the next one would be its square
            break
        value, gradient, hessian = _derivatives(spectrum, shift, powers)
    return torch.where((value >= before)[:, None], shift, start)


def _derivatives(
    spectrum: Tensor, shift: Tensor, powers: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the correlation at one place, its gradient `(batch, n)`, its Hessian `(batch, n, n)`.

    One axis after the other is summed with the factors that belong to the value and to its first
    and second derivative. In the end entry `9 i + 3 j + k` is differentiated i times along the
    first of three axes, j times along the second and k times along the third.
    """
    dims = len(powers)
    sums = spectrum.unsqueeze(1)  # (batch, derivatives along the axes before, axis, axes after)
    for axis, power in enumerate(powers):
        wave = torch.exp(power[1] * shift[:, axis, None])
        factors = power * wave.unsqueeze(1)
        summed = factors.unsqueeze(1) @ sums.reshape(*sums.shape[:3], -1)
        sums = summed.reshape(len(shift), -1, *sums.shape[3:])
    flat = sums.reshape(len(shift), -1).real
    once = 3 ** torch.arange(dims - 1, -1, -1, device=flat.device)  # where a first derivative is
    return flat[:, 0], flat[:, once], flat[:, once[:, None] + once]


def _margin(correlation: Tensor, place: Tensor) -> Tensor:
    """Return by how much the best entry beside a place exceeds all local maxima further away."""
    largest = correlation  # of an entry and those beside it
    near = torch.ones((), dtype=torch.bool, device=correlation.device)
    for axis, size in enumerate(correlation.shape[1:]):
        beside = torch.maximum(largest.roll(1, axis + 1), largest.roll(-1, axis + 1))
        largest = torch.maximum(largest, beside)
        distance = torch.arange(size, device=place.device) - place[:, axis, None] % size
        within = (distance + 1) % size <= 2  # one before, the place itself, one after
        near = near.unsqueeze(-1) & within.reshape(len(place), *[1] * axis, size)
    best = (correlation * near).flatten(1).amax(1)
    rivals = correlation * ((correlation == largest) & ~near)
    return (best - rivals.flatten(1).amax(1)).clamp(min=0)


def _check(
    a: Tensor, b: Tensor, axes: Sequence[int] | None, normalization: str | None
) -> tuple[int, ...]:
    if b.ndim not in (3, 4, 5) or 0 in b.shape[1:]:
        raise ValueError(
            f"Expected `b` to have shape (batch, channels, *spatial) with 1 to 3 spatial axes and "
            f"at least one entry, but got {tuple(b.shape)}."
        )
    if a.shape[1:] != b.shape[1:] or a.shape[0] not in (1, b.shape[0]):
        raise ValueError(
            f"Expected `a` to have the shape of `b`, {tuple(b.shape)}, or one image of it, "
            f"but got {tuple(a.shape)}."
        )
    for name, x in (("a", a), ("b", b)):
        if x.is_complex():
            raise TypeError(f"Expected `{name}` to be real, but got {x.dtype}.")
    spatial = tuple(range(2 - b.ndim, 0))
    axes = spatial if axes is None else tuple(axes)
    if not axes or len(set(axes)) != len(axes) or not set(axes) <= set(spatial):
        raise ValueError(f"Expected `axes` to be distinct and from {spatial}, but got {axes}.")
    if normalization not in (None, *get_args(Normalization)):
        raise ValueError(
            f"Expected `normalization` to be None or 'phase', but got {normalization!r}."
        )
    return axes
