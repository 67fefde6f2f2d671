"""Layers whose output moves exactly as their input does."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from eqrestore_lightning.functional import circular_conv
from eqrestore_lightning.functional._circular_conv import ConvMethod
from eqrestore_lightning.functional._exact_conv import ExactFilters


class CircularConv(nn.Module):
    """Convolve over axes that wrap around, as a layer with trainable filters.

    Args:
        num_spatial_dims: Number of spatial axes, 1 to 3.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Taps on each axis, or one number for all; up to the size of the image.
        dilation: Distance between taps, pixels.
        bias: Whether to add a constant to each output channel.
        separable: Whether each filter is the outer product of one 1-D filter for each axis:
            `Σ kernel_size` weights per filter instead of `Π kernel_size`.

    Shapes:
        Input `(batch, in_channels, *spatial)`, output `(batch, out_channels, *spatial)`.

    Attributes:
        method: How to evaluate it, see `circular_conv`; may be set.

    Raises:
        ValueError: If a number is out of range, `kernel_size` has the wrong length; in
            `forward`, if the input has another rank or number of channels.

    Source: Definition 3.5; the affine layer of Equation (3).

    >>> CircularConv(2, 2, 3, (5, 6))(torch.zeros(7, 2, 11, 13)).shape
    torch.Size([7, 3, 11, 13])
    """

    def __init__(
        self,
        num_spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        dilation: int = 1,
        bias: bool = True,
        separable: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= num_spatial_dims <= 3:
            raise ValueError(
                f"Expected `num_spatial_dims` to be from 1 to 3, but got {num_spatial_dims}."
            )
        self.num_spatial_dims = num_spatial_dims
        if isinstance(kernel_size, int):
            kernel_size = (kernel_size,) * num_spatial_dims
        if len(kernel_size) != num_spatial_dims:
            raise ValueError(
                f"Expected `kernel_size` to be one number or {num_spatial_dims}, "
                f"but got {tuple(kernel_size)}."
            )
        for name, value in (
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("kernel_size", min(kernel_size)),
            ("dilation", dilation),
        ):
            if value < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {value}.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = tuple(kernel_size)
        self.dilation = dilation
        self.separable = separable
        self.method: ConvMethod = "auto"
        for name, shape in self._shapes().items():
            setattr(self, name, nn.Parameter(torch.empty(out_channels, in_channels, *shape)))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as `torch.nn.Conv2d` does: uniform, variance `1 / (3 · fan_in)`."""
        fan_in = self.in_channels * math.prod(self.kernel_size)
        factors = self.factors()
        bound = math.sqrt(3) * (3 * fan_in) ** (-0.5 / len(factors))
        with torch.no_grad():
            for factor in factors:
                factor.uniform_(-bound, bound)
            if self.bias is not None:
                self.bias.uniform_(-(fan_in**-0.5), fan_in**-0.5)

    def factors(self) -> list[Tensor]:
        """Return the parameters of the filters: `weight`, or if separable one for each axis."""
        return [getattr(self, name) for name in self._shapes()]

    def filters(self) -> Tensor:
        """Return the filters, of shape `(out_channels, in_channels, *kernel_size)`."""
        product, *others = self.factors()
        for factor in others:
            view = factor.reshape(*factor.shape[:2], *[1] * (product.ndim - 2), -1)
            product = product.unsqueeze(-1) * view
        return product

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x`."""
        if x.ndim != self.num_spatial_dims + 2:
            raise ValueError(
                f"Expected `x` to have shape (batch, channels, *spatial) with "
                f"{self.num_spatial_dims} spatial axes, but got {tuple(x.shape)}."
            )
        weight = self.filters()
        return circular_conv(x, weight, bias=self.bias, dilation=self.dilation, method=self.method)

    def prepare(
        self, spatial: Sequence[int], device: torch.device, *, bits: int | None
    ) -> Callable[[Tensor], Tensor]:
        """Return the exact convolution for many batches of one size; see `circular_conv`."""
        filters = ExactFilters(self.filters().detach().to(device), spatial, self.dilation, bits)
        if self.bias is None:
            return filters
        bias = self.bias.detach().to(device).reshape(-1, *[1] * len(spatial))
        return lambda x: filters(x).add_(bias)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        if not self.separable:
            return {"weight": self.kernel_size}
        return {f"weight_{axis}": (size,) for axis, size in enumerate(self.kernel_size)}

    def extra_repr(self) -> str:
        """Return the arguments of the layer, as `repr` shows them."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, bias={self.bias is not None}, separable={self.separable}"
        )
