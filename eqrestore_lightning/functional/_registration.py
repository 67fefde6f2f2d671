"""The shift of one image relative to another."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from eqrestore_lightning.functional._shift import scores_to_shift

Normalization: TypeAlias = Literal["phase"]

_NEWTON_STEPS = 5
_LONGEST_STEP = 0.5  # pixels
_MAX_POOL: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class Registration(NamedTuple):
    """How each image of a batch is shifted relative to its partner.

    Attributes:
        shift: Pixels, floating of shape `(batch, num_axes)`; positive as in `torch.roll`.
        margin: Floating of shape `(batch,)`, from 0 (a guess) to 1 (certain): by how much the
            correlation at the best shift exceeds that at its best rival.
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
        margin is the difference of two correlation coefficients: that at the best place and that
        at the largest other local maximum, or 0 if there is none above 0. Where an image is uniform
        along `axes` or not finite both are 0.

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
    wide = torch.float64 in (a.dtype, b.dtype)
    a, b = (_prepare(x, axes, torch.float64 if wide else torch.float32) for x in (a, b))
    if len(b) == 0:  # torch 2.14 raises on an empty transform
        return Registration(b.new_zeros(0, len(axes)), b.new_zeros(0))
    finite = (a.isfinite().flatten(1).all(1) & b.isfinite().flatten(1).all(1)).reshape(-1)
    a, b = (x.nan_to_num(0.0, 0.0, 0.0) for x in (a, b))
    dims = tuple(range(2, b.ndim))
    spectrum = (torch.fft.rfftn(a, dim=dims).conj() * torch.fft.rfftn(b, dim=dims)).sum(1)
    length = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    if normalization == "phase":
        spectrum, length = _whiten(spectrum, b.shape[2:])
    correlation = torch.fft.irfftn(spectrum, s=b.shape[2:], dim=tuple(range(1, spectrum.ndim)))
    start = scores_to_shift(correlation)
    shift = _refine(spectrum, start.to(b.dtype), b.shape[2:])
    margin = _margin(correlation, start) / length.clamp(min=torch.finfo(b.dtype).tiny)
    known = finite & (length > 0)
    return Registration(torch.where(known[:, None], shift, 0), torch.where(known, margin, 0))


def _prepare(x: Tensor, axes: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return shape `(batch, everything else, *shifted axes)`, without the mean over these axes."""
    x = x.to(dtype).movedim(axes, tuple(range(-len(axes), 0)))
    x = x.flatten(1, -len(axes) - 1)
    return x - x.mean(tuple(range(2, x.ndim)), keepdim=True)


def _whiten(spectrum: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Set the magnitude of all frequencies that hold more than rounding errors to 1.

    Returns:
        The spectrum, and what its correlation would be if all phases agreed, shape `(batch,)`.
    """
    magnitude = spectrum.abs()
    floor = 100 * torch.finfo(magnitude.dtype).eps * magnitude.flatten(1).amax(1)
    floor = floor.clamp(min=torch.finfo(magnitude.dtype).tiny)
    floor = floor.reshape(-1, *[1] * (spectrum.ndim - 1))
    white = torch.where(magnitude > floor, spectrum / magnitude.clamp(min=floor), 0)
    white.flatten(1)[:, 0] = 0  # the means, which carry no information about the shift
    total = (white.abs() * _multiplicity(sizes[-1], white)).flatten(1).sum(1)
    return white, total / math.prod(sizes)


def _multiplicity(size: int, spectrum: Tensor) -> Tensor:
    """Return how often each entry of a real transform's last axis occurs in the full transform."""
    count = torch.full((size // 2 + 1,), 2, dtype=torch.int64, device=spectrum.device)
    count[0] = 1
    if size % 2 == 0:
        count[-1] = 1
    return count


def _refine(spectrum: Tensor, start: Tensor, sizes: Sequence[int]) -> Tensor:
    """Climb from the best pixel to the maximum between pixels."""
    spectrum = spectrum * _multiplicity(sizes[-1], spectrum)
    frequencies = []
    for axis, size in enumerate(sizes):
        frequency = torch.fft.fftfreq(
            size, 1 / (2 * math.pi), dtype=start.dtype, device=start.device
        )
        if axis == len(sizes) - 1:
            frequency = frequency[: size // 2 + 1]
        if size % 2 == 0:  # its phase does not show the direction of a shift
            spectrum = spectrum.index_fill(
                axis + 1, torch.tensor([size // 2], device=start.device), 0
            )
        frequencies.append(frequency)
    shift = start
    before, gradient, hessian = _derivatives(spectrum, start, frequencies)
    value = before
    for _ in range(_NEWTON_STEPS):
        flat = (hessian.diagonal(dim1=1, dim2=2) == 0).to(hessian.dtype).diag_embed()
        factor, failed = torch.linalg.cholesky_ex(flat - hessian)
        newton = torch.cholesky_solve(gradient.unsqueeze(2), factor).squeeze(2)
        uphill = gradient / (hessian.abs().sum(2) + flat.sum(2))  # where it is not concave
        step = torch.where(failed[:, None] == 0, newton, uphill)
        shift = shift + step.clamp(-_LONGEST_STEP, _LONGEST_STEP)
        value, gradient, hessian = _derivatives(spectrum, shift, frequencies)
    return torch.where((value >= before)[:, None], shift, start)


def _derivatives(
    spectrum: Tensor, shift: Tensor, frequencies: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the correlation at one place, its gradient `(batch, n)`, its Hessian `(batch, n, n)`.

    One axis after the other is summed with the factors that belong to the value and to its first
    and second derivative. In the end entry `9 i + 3 j + k` is differentiated i times along the
    first of three axes, j times along the second and k times along the third.
    """
    dims = len(frequencies)
    sums = spectrum.unsqueeze(1)  # (batch, derivatives along the axes before, axis, axes after)
    for axis, frequency in enumerate(frequencies):
        wave = torch.exp(1j * frequency * shift[:, axis, None])
        factors = torch.stack([wave, 1j * frequency * wave, -(frequency**2) * wave], 1)
        summed = factors.unsqueeze(1) @ sums.reshape(*sums.shape[:3], -1)
        sums = summed.reshape(len(shift), -1, *sums.shape[3:])
    flat = sums.reshape(len(shift), -1).real
    once = 3 ** torch.arange(dims - 1, -1, -1, device=flat.device)  # where a first derivative is
    return flat[:, 0], flat[:, once], flat[:, once[:, None] + once]


def _margin(correlation: Tensor, best: Tensor) -> Tensor:
    """Return by how much the best place exceeds the largest local maximum not beside it."""
    dims = correlation.ndim - 1
    padded = F.pad(correlation.unsqueeze(1), [1] * (2 * dims), mode="circular")
    peaks = _MAX_POOL[dims](padded, 3, stride=1).squeeze(1) <= correlation
    near = torch.ones((), dtype=torch.bool, device=correlation.device)
    for axis, size in enumerate(correlation.shape[1:]):
        distance = torch.arange(size, device=best.device) - best[:, axis, None] % size
        beside = (distance + 1) % size <= 2  # one before, the place itself, one after
        near = near.unsqueeze(-1) & beside.reshape(len(best), *[1] * axis, size)
    rival = torch.where(peaks & ~near, correlation, 0).flatten(1).amax(1)
    return (correlation.flatten(1).amax(1) - rival).clamp(min=0)


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
