"""The canonical network of the paper: an estimator of shifts for images of one size."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from eqrestore_lightning.functional._conv_ways import LOCAL_TAPS
from eqrestore_lightning.functional._exact_conv import exact_bits
from eqrestore_lightning.functional._shift import check_axes, index_to_shift
from eqrestore_lightning.functional._traced import is_traced
from eqrestore_lightning.motions import Element
from eqrestore_lightning.nn._base import (
    check_factor,
    check_spatial_size,
    register_estimator,
    split_batch,
)
from eqrestore_lightning.nn._circular_conv import CircularConv
from eqrestore_lightning.nn._float_filter import FloatFilter
from eqrestore_lightning.nn._integer import as_precise
from eqrestore_lightning.nn._shift import ShiftEstimator, join_axes

KernelSize: TypeAlias = int | Literal["full"]

# So much of images at a time that what is made of them stays in the cache of a CPU: shifts times
# channels of the widest layer, and shifts.
_SCORED_AT_ONCE = 2**18
_GUESSED_AT_ONCE = 2**16


@register_estimator
class TranslationEstimator(ShiftEstimator):
    r"""Score every circular shift of an image: the canonical network of the paper.

    `F = F_L ∘ … ∘ F_1`, `F_l(x)_o = relu(Σ_i w[o, i] ⊛ x_i + b_o)`, one output map, no striding, no
    pooling, no zero padding. The last layer is affine: a ReLU there would change no positive
    maximum, but could turn a whole map into zeros. The default is the paper's network: six layers,
    kernel 9, one channel, no bias, `in_channels · 81 + 5 · 81` weights.

    Each sample is divided by its largest magnitude first, so that the estimate does not depend on
    whether pixels are given as 0…1 or 0…255. Axes along which images are not shifted are folded
    into the channels: `TranslationEstimator(3, (64, 256), axes=(-1,))` finds by how much a panorama
    was shifted along its width.

    Convention:
        `scores[b, i]` is high where sample `b` looks as if shifted by `i`; index 0 on every axis
        means not shifted. Shifts are positive as in `torch.roll`.

    Args:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis, pixels; one to three of them. An estimator works
            for images of this size only.
        axes: The axes along which images may have been shifted, negative as in torch, ascending;
            all by default. Kernels lie along these axes.
        hidden_channels: Channels between the layers; there is one more layer than entries.
        kernel_size: Taps on each axis, or `"full"` for filters as large as the image; one for all
            layers, or a list with one for each.
        dilation: Distance between taps, pixels; one for all layers, or a list with one for each.
        bias: Whether to add a constant to each hidden channel (added to the scores, it would not
            change which is the largest).
        skip: Whether a layer, except the last, adds its input to its output where the channels
            agree.
        separable: Whether filters are outer products of 1-D filters; one for all layers, or a list
            with one for each.
        bits: Binary places that `exact_scores` keeps for filters of 2 to 25 taps, see
            `circular_conv`. `None` keeps 14 to 21, as for all other filters; 8 takes a fraction of
            the time, and the scores differ slightly. Scores of so few bits tie often: let the last
            layer have a single tap.

    Shapes:
        Input `(batch, in_channels, *spatial_size)`, floating; output `(batch, *sizes of axes)`.

    Raises:
        ValueError: If a number is out of range, a list has the wrong length, a kernel does not fit
            into the image, or `axes` are not spatial axes.

    Source: Equations (2) and (3), Definition 4.1, Appendix D.

    >>> estimator = TranslationEstimator(1, (32, 32))
    >>> sum(parameter.numel() for parameter in estimator.parameters())
    486
    >>> estimator(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 32, 32])
    >>> TranslationEstimator(3, (64, 256), axes=(-1,))(torch.zeros(2, 3, 64, 256)).shape
    torch.Size([2, 256])
    """

    spatial_size: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        axes: Sequence[int] | None = None,
        hidden_channels: Sequence[int] = (1, 1, 1, 1, 1),
        kernel_size: KernelSize | Sequence[KernelSize] = 9,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
        skip: bool = False,
        separable: bool | Sequence[bool] = False,
        bits: int | None = None,
    ) -> None:
        super().__init__()
        check_spatial_size(spatial_size)
        if in_channels < 1:
            raise ValueError(f"Expected `in_channels` to be at least 1, but got {in_channels}.")
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.axes = check_axes(axes, len(spatial_size))
        self.skip = skip
        self.bits = bits
        joined = in_channels * math.prod(spatial_size) // math.prod(self.shifted_size)
        channels = [joined, *hidden_channels, 1]
        num_layers = len(channels) - 1
        kernels = _one_per_layer("kernel_size", kernel_size, num_layers)
        dilations = _one_per_layer("dilation", dilation, num_layers)
        separables = _one_per_layer("separable", separable, num_layers)
        self._config: dict[str, Any] = {
            "in_channels": in_channels,
            "spatial_size": list(spatial_size),
            "axes": list(self.axes),
            "hidden_channels": list(hidden_channels),
            "kernel_size": kernels,
            "dilation": dilations,
            "bias": bias,
            "skip": skip,
            "separable": separables,
            "bits": bits,
        }
        self.layers = nn.ModuleList()
        for layer in range(num_layers):
            size = self._kernel_size(kernels[layer], dilations[layer])
            self.layers.append(
                CircularConv(
                    len(self.axes),
                    channels[layer],
                    channels[layer + 1],
                    size,
                    dilation=dilations[layer],
                    bias=bias and layer < num_layers - 1,
                    separable=separables[layer] and max(size) > 1,
                )
            )
        self._check_bits()
        self.reset_parameters()

    @property
    @override
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    @property
    def shifted_size(self) -> tuple[int, ...]:
        """Size of each axis along which images may have been shifted, pixels."""
        return tuple(self.spatial_size[axis] for axis in self.axes)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights so that the ReLUs suppress no image entirely.

        Every filter is small zero-mean noise, to which a uniform image does not respond; the first
        layer also passes on the mean of the image's channels, and every other layer the first
        channel before it. What reaches the scores is then constant only if the image is.

        (`torch.nn.Conv2d` draws biases that often leave nothing for a ReLU to pass on.)
        """
        for number, layer in enumerate(self._convs()):
            layer.reset_parameters()
            if layer.bias is not None:
                layer.bias.zero_()
            passed = layer.in_channels if number == 0 else 1
            factors = layer.factors()
            for factor in factors:
                taps = factor.flatten(2)
                if taps.shape[2] > 1:
                    taps -= taps.mean(2, keepdim=True)
                center = 0
                for size in factor.shape[2:]:
                    center = center * size + (size - 1) // 2
                taps[0, :passed, center] += passed ** (-1 / len(factors))

    @torch.no_grad()
    @override
    def scale_scores(self, factor: float) -> None:
        check_factor(factor)
        self._convs()[-1].factors()[0].mul_(factor)

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        # If `exact`, every convolution is; all other operations act on single entries or take a
        # maximum. None of them depends on where an entry lies.
        if not exact:
            layers = self._convs()
            return self._score(_normalize(x).to(layers[0].factors()[0].dtype), layers)
        device = as_precise(x[:0], self.bits).device
        layers = self._convs()
        widest = max(layer.out_channels for layer in layers)
        *hidden, last = (
            layer.prepare(self.shifted_size, device, bits=self._bits(layer)) for layer in layers
        )
        convs = [*hidden, lambda y: last(y.double())]
        scores = [
            self._score(_normalize(as_precise(part, self.bits)), convs)
            for part in self._parts(x, _SCORED_AT_ONCE // widest)
        ]
        return torch.cat(scores) if len(scores) > 1 else scores[0]

    def _check_bits(self) -> None:
        most = min(
            exact_bits(
                (1, conv.in_channels, *self.shifted_size), (1, conv.in_channels, *conv.kernel_size)
            )
            for conv in self._convs()
        )
        if self.bits is not None and not 1 <= self.bits <= most:
            raise ValueError(
                f"Expected `bits` to be None or from 1 to {most}, but got {self.bits}."
            )

    def _bits(self, conv: CircularConv) -> int | None:
        local = 1 < math.prod(conv.kernel_size) <= LOCAL_TAPS
        return self.bits if local else None

    def _score(self, x: Tensor, convs: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        x = join_axes(x, self.axes)
        *hidden, last = convs
        for conv in hidden:
            y = conv(x).relu_()
            x = x + y if self.skip and x.shape == y.shape else y
        return last(x).squeeze(1)

    @override
    def estimate(self, x: Tensor) -> Element:
        # Where the best float32 score is ahead of the second by more than twice the bound of
        # `FloatFilter`, it is the best exact score too. Larger networks, for which there is no
        # useful bound, and those with `bits` use exact scores for all images.
        self.check_input(x)
        layers = self._convs()
        bounded = self.bits is None and FloatFilter.applies(layers)
        bounded = bounded and math.prod(self.shifted_size) > 1
        if is_traced(x) or not bounded or not len(x):
            return super().estimate(x)
        places, doubtful = self._first_guess(layers, x)
        shift = index_to_shift(places, self.shifted_size).to(x.device)
        if doubtful.any():
            doubtful = doubtful.to(x.device)
            shift[doubtful] = super().estimate(x[doubtful])["shift"]
        return {"shift": shift}

    @torch.no_grad()
    def _first_guess(self, layers: list[CircularConv], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the index of each best float32 score, and whether it is in doubt."""
        float_filter: FloatFilter | None = None
        places, doubtful = [], []
        for part in self._parts(x, _GUESSED_AT_ONCE):
            images = join_axes(part.cpu() if part.device.type == "mps" else part, self.axes)
            if float_filter is None:
                float_filter = FloatFilter(layers, images.shape, images.device)
            scores, bound = float_filter.scores(images)
            scores = scores.flatten(1)
            (best, second), (place, _) = (each.unbind(1) for each in scores.topk(2))
            places.append(place)
            doubtful.append(~((best.double() - second.double() > 2 * bound) & best.isfinite()))
        return torch.cat(places), torch.cat(doubtful)

    def _parts(self, x: Tensor, shifts: int) -> Sequence[Tensor]:
        joined = math.prod(self.spatial_size) // math.prod(self.shifted_size)
        return split_batch(x, shifts * joined)

    def _convs(self) -> list[CircularConv]:
        return [layer for layer in self.layers if isinstance(layer, CircularConv)]

    def _kernel_size(self, taps: KernelSize, dilation: int) -> tuple[int, ...]:
        if taps == "full":
            return self.shifted_size
        if not isinstance(taps, int):
            raise ValueError(f"Expected `kernel_size` to be a number or 'full', but got {taps!r}.")
        if dilation * (taps - 1) + 1 > min(self.shifted_size):
            raise ValueError(
                f"Expected the kernel to span at most the image, {min(self.shifted_size)} pixels, "
                f"but got {taps} taps at dilation {dilation}."
            )
        return (taps,) * len(self.axes)


def _one_per_layer(name: str, value: Any, num_layers: int) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * num_layers
    if len(value) != num_layers:
        raise ValueError(
            f"Expected `{name}` to be one value or {num_layers}, one for each layer, "
            f"but got {list(value)}."
        )
    return list(value)


def _normalize(x: Tensor) -> Tensor:
    """Divide each sample by its largest magnitude, which depends on no order of summation."""
    largest = x.abs().amax(tuple(range(1, x.ndim)), keepdim=True)
    return x / largest.clamp(min=torch.finfo(x.dtype).tiny)
