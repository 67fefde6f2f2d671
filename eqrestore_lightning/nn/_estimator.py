"""Networks whose largest output entry stands where the image has been shifted to."""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from eqrestore_lightning.functional import (
    ConvMethod,
    circular_conv,
    circular_shift,
    scores_to_shift,
)
from eqrestore_lightning.nn._circular_conv import (
    CircularConv1d,
    CircularConv2d,
    CircularConv3d,
    _CircularConv,
)

KernelSize: TypeAlias = int | Literal["full"]


class TranslationEstimator(nn.Module):
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
        separable: Whether filters are outer products of 1-D filters.

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
        separable: bool = False,
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
        self._config: dict[str, Any] = {
            "in_channels": in_channels,
            "spatial_size": list(spatial_size),
            "hidden_channels": list(hidden_channels),
            "kernel_size": kernels,
            "dilation": dilations,
            "bias": bias,
            "skip": skip,
            "separable": separable,
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
                    separable=separable and max(size) > 1,
                )
            )
        self.reset_parameters()

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        return dict(self._config)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights so that no image dies on its way through the ReLUs.

        Every filter is small noise; the first channel of every layer also passes on the first
        channel before it, so that what reaches the scores is never constant unless the image is.

        Source: own. Five of eleven networks drawn as `torch.nn.Conv2d` does gave constant scores.
        """
        for layer in self._convs():
            layer.reset_parameters()
            if layer.bias is not None:
                layer.bias.zero_()
            for factor in layer.factors():
                centre = tuple((taps - 1) // 2 for taps in factor.shape[2:])
                factor[(0, 0, *centre)] = 1.0

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
            float64 of shape `(batch, *spatial_size)`; exact, on every device that has float64.

        Raises:
            ValueError: If `x` has another shape.
        """
        return self._run(x.double(), "exact")

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Tensor:
        """Read off the shift from exact scores; equal largest scores are decided by content.

        Among places with exactly equal scores wins the one at which the image, moved there,
        correlates most with one fixed pseudo-random pattern. This too is bitwise equivariant, so
        that the choice moves along with the image; the lowest index would not.

        Args:
            scores: What `exact_scores(x)` gave.
            x: The images scored.

        Returns:
            Pixels, int64 of shape `(batch, num_spatial_dims)`.
        """
        pattern = _pseudo_random(self.in_channels, self.spatial_size, device=x.device)
        key = circular_conv(_normalise(x.double()), pattern, method="exact")
        return scores_to_shift(scores, tie_breaker=key.squeeze(1))

    def undo(self, x: Tensor, shift: Tensor) -> Tensor:
        """Move images back by the shifts found: exact, for any dtype."""
        return circular_shift(x, -shift)

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


def _pseudo_random(channels: int, spatial_size: Sequence[int], *, device: torch.device) -> Tensor:
    """Give one fixed filter of integers, the same on every machine and release of torch."""
    numbers = torch.arange(1, channels * math.prod(spatial_size) + 1, device=device)
    for multiplier in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):  # Fibonacci hashing, MurmurHash3
        numbers = (numbers * multiplier) & 0xFFFFFFFF
        numbers = numbers ^ (numbers >> 15)
    centred = (numbers & 0xFFFF) - 0x8000
    return centred.double().reshape(1, channels, *spatial_size)
