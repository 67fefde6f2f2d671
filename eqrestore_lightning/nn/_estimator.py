"""Networks whose largest output entry stands where the image has been shifted to."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqrestore_lightning.functional import (
    ConvMethod,
    break_ties,
    circular_conv,
    circular_shift,
    leading_bits,
    random_shift,
    scores_to_shift,
    shift_to_index,
)
from eqrestore_lightning.nn._base import Estimator, ShiftFunction, TrainableEstimator
from eqrestore_lightning.nn._circular_conv import (
    CircularConv1d,
    CircularConv2d,
    CircularConv3d,
    _CircularConv,
)

KernelSize: TypeAlias = int | Literal["full"]


class ShiftEstimator(Estimator):
    """Read circular shifts off scores, and undo them: what all estimators of translations share."""

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Tensor:
        """Read off the shift from exact scores; equal largest scores are decided by content.

        Among places with exactly equal scores wins the one at which the image, moved there,
        correlates most with fixed pseudo-random patterns. This too is bitwise equivariant, so that
        the choice moves along with the image; the lowest index would not. The correlations see at
        least 40 bits of the image below its largest magnitude.

        Args:
            scores: What `exact_scores(x)` gave.
            x: The images scored.

        Returns:
            Pixels, int64 of shape `(batch, num_spatial_dims)`, on the device of `x`. 0 for images
            with entries that are not finite.

        Raises:
            ValueError: If `scores` and `x` do not belong together.
        """
        best = scores.amax(tuple(range(1, scores.ndim)), keepdim=True)
        # Ties are rare, and looking for them is cheaper than deciding them; a traced graph decides.
        if torch.compiler.is_compiling() or (scores == best).flatten(1).sum(1).gt(1).any():
            for key in content_keys(as_float64(x)):
                scores = break_ties(scores, key)
        return scores_to_shift(scores).to(x.device)

    def undo(self, x: Tensor, shift: Tensor) -> Tensor:
        """Move images back by the shifts found: exact, for any dtype.

        Args:
            x: Images of shape `(batch, channels, *spatial)`.
            shift: Pixels, int64 of shape `(batch, num_spatial_dims)`.

        Returns:
            A new tensor with the shape and dtype of `x`.

        Raises:
            TypeError: If `shift` is not int64.
            ValueError: If the shapes do not belong together.
        """
        return circular_shift(x, -shift)


class TranslationEstimator(ShiftEstimator, TrainableEstimator):
    r"""Score every circular shift of an image: the canonical network of the paper.

    `F = F_L ∘ … ∘ F_1`, `F_l(x)_o = relu(Σ_i w[o, i] ⊛ x_i + b_o)`, one output map, no striding, no
    pooling, no zero padding. The last layer is affine: a ReLU there would change no positive
    maximum, but could turn a whole map into zeros. The default is the paper's network: six layers,
    kernel 9, one channel, no bias, `in_channels · 81 + 5 · 81` weights.

    Each sample is divided by its largest magnitude first, so that the estimate does not depend on
    whether pixels are given as 0…1 or 0…255.

    Convention:
        `scores[b, i]` is high where sample `b` looks as if shifted by `i`; index 0 on every axis
        means not shifted. Shifts are positive as in `torch.roll`.

    Args:
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis, pixels; one to three of them. An estimator knows
            where images of this size belong; it refuses others.
        hidden_channels: Channels between the layers; one layer more than entries.
        kernel_size: Taps on each axis, or `"full"` for filters as large as the image; one for all
            layers, or a list with one for each.
        dilation: Distance between taps, pixels; one for all layers, or a list with one for each.
        bias: Whether to add a constant to each hidden channel (to the scores it would do nothing).
        skip: Whether a layer, except the last, adds its input to its output where the channels
            agree.
        separable: Whether filters are outer products of 1-D filters; one for all layers, or a list
            with one for each.

    Shapes:
        Input `(batch, in_channels, *spatial_size)`, floating; output `(batch, *spatial_size)`.

    Raises:
        ValueError: If a number is out of range, a list has the wrong length, or a kernel does not
            fit into the image.

    Source: Equations (2) and (3), Definition 4.1, Appendix D.

    >>> estimator = TranslationEstimator(1, (32, 32))
    >>> sum(parameter.numel() for parameter in estimator.parameters())
    486
    >>> estimator(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        hidden_channels: Sequence[int] = (1, 1, 1, 1, 1),
        kernel_size: KernelSize | Sequence[KernelSize] = 9,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
        skip: bool = False,
        separable: bool | Sequence[bool] = False,
    ) -> None:
        super().__init__()
        if not 1 <= len(spatial_size) <= 3 or min(spatial_size) < 1:
            raise ValueError(
                f"Expected `spatial_size` to be one to three sizes of at least 1, "
                f"but got {tuple(spatial_size)}."
            )
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.skip = skip
        channels = [in_channels, *hidden_channels, 1]
        num_layers = len(channels) - 1
        kernels = _one_per_layer("kernel_size", kernel_size, num_layers)
        dilations = _one_per_layer("dilation", dilation, num_layers)
        separables = _one_per_layer("separable", separable, num_layers)
        self._config: dict[str, Any] = {
            "in_channels": in_channels,
            "spatial_size": list(spatial_size),
            "hidden_channels": list(hidden_channels),
            "kernel_size": kernels,
            "dilation": dilations,
            "bias": bias,
            "skip": skip,
            "separable": separables,
        }
        conv = (CircularConv1d, CircularConv2d, CircularConv3d)[len(spatial_size) - 1]
        self.layers = nn.ModuleList()
        for layer in range(num_layers):
            size = self._kernel_size(kernels[layer], dilations[layer])
            self.layers.append(
                conv(
                    channels[layer],
                    channels[layer + 1],
                    size,
                    dilation=dilations[layer],
                    bias=bias and layer < num_layers - 1,
                    separable=separables[layer] and max(size) > 1,
                )
            )
        self.reset_parameters()

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        return dict(self._config)

    @property
    def periods(self) -> tuple[int, ...]:
        """After how much each entry of a shift is as good as 0: the size of each axis."""
        return self.spatial_size

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights so that no image dies on its way through the ReLUs.

        Every filter is small noise without mean, which a uniform image does not feel; the first
        layer also passes on the mean of the image's channels, and every other layer the first
        channel before it. What reaches the scores is then constant only if the image is.

        Source: own. `torch.nn.Conv2d` draws biases that often leave nothing for a ReLU to pass on.
        """
        for number, layer in enumerate(self._convs()):
            layer.reset_parameters()
            if layer.bias is not None:
                layer.bias.zero_()
            passed = self.in_channels if number == 0 else 1
            factors = layer.factors()
            for factor in factors:
                taps = factor.flatten(2)
                if taps.shape[2] > 1:
                    taps -= taps.mean(2, keepdim=True)
                centre = 0
                for size in factor.shape[2:]:
                    centre = centre * size + (size - 1) // 2
                taps[0, :passed, centre] += passed ** (-1 / len(factors))

    @torch.no_grad()
    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do.

        Raises:
            ValueError: If `factor` is not finite or not above 0.
        """
        if not 0 < factor < math.inf:
            raise ValueError(f"Expected `factor` to be finite and above 0, but got {factor}.")
        self._convs()[-1].factors()[0].mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Score every shift, differentiably, in the dtype of `x`; equivariant up to rounding.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, floating.

        Returns:
            Shape `(batch, *spatial_size)`, dtype of `x`.

        Raises:
            TypeError: If `x` is not floating.
            ValueError: If `x` has another shape.
        """
        if not x.is_floating_point():
            raise TypeError(f"Expected `x` to be floating, but got {x.dtype}.")
        return self._run(x, None)

    @torch.no_grad()
    def exact_scores(self, x: Tensor) -> Tensor:
        """Score every shift, bitwise equivariantly: a shifted image gives equal, shifted scores.

        Every convolution is evaluated by the method `"exact"` of `circular_conv`; what lies between
        works on single entries or takes a maximum. None of it depends on where an entry lies.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, any real dtype; uint8 as it is.

        Returns:
            float64 of shape `(batch, *spatial_size)`, exact; on the device of `x`, or on the CPU
            where that device (Apple's MPS) has no float64.

        Raises:
            ValueError: If `x` has another shape.
        """
        return self._run(as_float64(x), "exact")

    def random_element(
        self,
        batch_size: int,
        *,
        max_shift: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw shifts, see `random_shift`; by default of up to half the shortest axis."""
        if max_shift is None:
            max_shift = min(self.spatial_size) // 2
        dims = len(self.spatial_size)
        return random_shift(batch_size, max_shift, num_spatial_dims=dims, generator=generator)

    def apply_element(
        self, x: Tensor, element: Tensor, *, shift: ShiftFunction = circular_shift
    ) -> Tensor:
        """Shift images, by default circularly, see `circular_shift`."""
        return shift(x, element)

    def loss(self, scores: Tensor, element: Tensor) -> Tensor:
        """Give the cross-entropy over all shifts."""
        return F.cross_entropy(scores.flatten(1), shift_to_index(element, self.spatial_size))

    def _run(self, x: Tensor, method: ConvMethod | None) -> Tensor:
        if x.shape[1:] != (self.in_channels, *self.spatial_size):
            raise ValueError(
                f"Expected `x` to have shape (batch, {self.in_channels}, "
                f"{', '.join(map(str, self.spatial_size))}), but got {tuple(x.shape)}."
            )
        x = _normalise(x)
        for number, layer in enumerate(self.layers):
            y = layer(x, method=method)
            last = number == len(self.layers) - 1
            if not last:
                y = y.relu_()
            x = x + y if self.skip and not last and x.shape == y.shape else y
        return x.squeeze(1)

    def _convs(self) -> list[_CircularConv]:
        return [layer for layer in self.layers if isinstance(layer, _CircularConv)]

    def _kernel_size(self, taps: KernelSize, dilation: int) -> tuple[int, ...]:
        if taps == "full":
            return self.spatial_size
        if not isinstance(taps, int):
            raise ValueError(f"Expected `kernel_size` to be a number or 'full', but got {taps!r}.")
        if dilation * (taps - 1) + 1 > min(self.spatial_size):
            raise ValueError(
                f"Expected the kernel to span at most the image, {min(self.spatial_size)} pixels, "
                f"but got {taps} taps at dilation {dilation}."
            )
        return (taps,) * len(self.spatial_size)


def _one_per_layer(name: str, value: Any, num_layers: int) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * num_layers
    if len(value) != num_layers:
        raise ValueError(
            f"Expected `{name}` to be one value or {num_layers}, one for each layer, "
            f"but got {list(value)}."
        )
    return list(value)


def _normalise(x: Tensor) -> Tensor:
    """Divide each sample by its largest magnitude: a maximum depends on no order of summation."""
    largest = x.abs().amax(tuple(range(1, x.ndim)), keepdim=True)
    return x / largest.clamp(min=torch.finfo(x.dtype).tiny)


def as_float64(x: Tensor) -> Tensor:
    return (x.cpu() if x.device.type == "mps" else x).double()


def content_keys(x: Tensor) -> Iterator[Tensor]:
    """Correlate images with pseudo-random patterns, for every shift: equal only by equal content.

    An exact convolution sees the leading bits of an image; what they leave is correlated next.
    """
    patterns = torch.cat([_pattern(x.shape[1:], seed=seed, device=x.device) for seed in range(3)])
    for _ in range(4):
        yield from circular_conv(x, patterns, method="exact").unbind(1)
        x = x - leading_bits(x, 10)


def _pattern(shape: Sequence[int], *, seed: int, device: torch.device) -> Tensor:
    """Give one fixed filter of integers, the same on every machine and release of torch."""
    numbers = torch.arange(math.prod(shape), device=device) + (seed << 28) + 1
    for multiplier in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):  # Fibonacci hashing, MurmurHash3
        numbers = (numbers * multiplier) & 0xFFFFFFFF
        numbers = numbers ^ (numbers >> 15)
    return ((numbers & 0xFFF) - 0x800).double().reshape(1, *shape)
