"""Which layers of a network lose equivariance, why, and how much of it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eqrestore_lightning.files._markdown import markdown_table
from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.testing._equivariance import own_stride, shift_error


@dataclass(frozen=True)
class LayerAudit:
    """What one layer does to equivariance, measured.

    Attributes:
        name: Where it is in the network; its second call has the name with `#2`.
        kind: Name of its class, or "function" for what happens between layers.
        size: Spatial size of its output, pixels; empty if there are no spatial axes left.
        error: Equivariance error of its output when the network's input moves by one pixel.
        own_error: The same when its own input moves by one pixel: the error that the layer alone
            adds. NaN for functions, which cannot be called alone.
        border_error: The same for as many pixels as its stride: what the border adds to that.
        reason: Why it loses equivariance; empty if it does not.
    """

    name: str
    kind: str
    size: tuple[int, ...]
    error: float
    own_error: float
    border_error: float
    reason: str


class _Call(NamedTuple):
    name: str
    layer: nn.Module
    x: Tensor
    y: Tensor


@torch.no_grad()
def audit(model: nn.Module, x: Tensor, *, tolerance: float = 1e-4) -> list[LayerAudit]:
    """Measure, layer by layer, where a network loses translation equivariance.

    The input is moved by one pixel along every axis, around the border. Each feature map should
    then have moved by one pixel as well, or its share of one where it is smaller. Every layer is
    also tried alone, on its input moved by one pixel, and by as many as its stride; as a stride
    follows the latter exactly, what is left is due to the border.

    Layers are the modules without modules inside, in the order in which they are called, in eval
    mode. Functions that a network calls between them are noticed by their effect: a change of size,
    or an error where there was none.

    Args:
        model: From `(batch, channels, *spatial)` to anything; its layers pass on such maps, or
            tensors without spatial axes, of which invariance is measured.
        x: What it is tried on, of that shape, floating. Noise is the strictest test.
        tolerance: Errors up to this are attributed to rounding.

    Returns:
        One entry for each call of a layer, in order. The first with a `reason` is where
        equivariance is lost first.

    Raises:
        TypeError: If the input or the output of a layer is not one tensor.
        RuntimeError: If the moved input takes a different path through the network.

    Source: Definition 3.2; Theorem 3.4 says that a linear layer keeps it only as a circular filter.

    >>> network = nn.Sequential(nn.Softplus(), nn.MaxPool1d(2), nn.Flatten())
    >>> [layer.reason for layer in audit(network, torch.arange(8.0).reshape(1, 1, 8))]
    ['', 'pooling with stride 2', 'flattening']
    """
    with _eval_mode(model):
        return _audit(model, x, tolerance)


def _audit(model: nn.Module, x: Tensor, tolerance: float) -> list[LayerAudit]:
    axes = tuple(range(2, x.ndim))
    still, moved = _record(model, x), _record(model, x.roll((1,) * len(axes), axes))
    if [call.name for call in still] != [call.name for call in moved]:
        raise RuntimeError("Expected the same layers for a moved input, but got others.")
    layers: list[LayerAudit] = []
    strides = {tuple(x.shape[2:]): (1,) * len(axes)}
    before = x
    for call, other in zip(still, moved, strict=True):
        reason = _change_of_size(before, call.x, strides)
        stride = _known_stride(strides, before, call.x)
        error = shift_error(other.x, call.x, (1,) * len(axes), stride)
        if not reason and error > tolerance and all(one.error <= tolerance for one in layers):
            reason = "a function between layers"
        if reason:
            size = tuple(call.x.shape[2:]) if call.x.ndim == x.ndim else ()
            name = f"before {call.name}"
            layers.append(LayerAudit(name, "function", size, error, math.nan, math.nan, reason))
        stride = _known_stride(strides, call.x, call.y)
        error = shift_error(other.y, call.y, (1,) * len(axes), stride)
        layers.append(_measure(call, x.ndim, error, tolerance))
        before = call.y
    return layers


def audit_table(layers: Sequence[LayerAudit]) -> str:
    """Return what `audit` found as a Markdown table.

    Args:
        layers: What `audit` returned.

    Returns:
        One row for each layer.

    >>> x = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> print(audit_table(audit(nn.Sequential(nn.ReLU(), nn.Flatten()), x)))
    | layer | kind | size | error | own error | of that, border | equivariance lost by |
    |---|---|---|---|---|---|---|
    | 0 | ReLU | 3 × 3 | 0 | 0 | 0 |  |
    | 1 | Flatten | none | 0.94 | 0.94 | 0 | flattening |
    """

    def number(error: float) -> str:
        return "" if math.isnan(error) else f"{error:.2g}"

    return markdown_table(
        [
            {
                "layer": layer.name,
                "kind": layer.kind,
                "size": " × ".join(map(str, layer.size)) or "none",
                "error": number(layer.error),
                "own error": number(layer.own_error),
                "of that, border": number(layer.border_error),
                "equivariance lost by": layer.reason,
            }
            for layer in layers
        ]
    )


def draw_audit(path: Path, layers: Sequence[LayerAudit], *, title: str = "") -> Path:
    """Draw what `audit` found: error along the network, and what each layer adds to it.

    Args:
        path: File to write, ending in .png, .svg or .pdf.
        layers: What `audit` returned.
        title: Title of the picture.

    Returns:
        `path`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Expected matplotlib: pip install 'eqrestore-lightning[recipes]'") from (
            error
        )
    with style.context("eqrestore_lightning.pictures"), whole_file(path) as part:
        figure = Figure(figsize=(max(6.0, 0.22 * len(layers) + 2), 5.2), layout="constrained")
        _draw_layers(figure.add_subplot(), layers)
        figure.suptitle(title or "Layers with a colored name lose equivariance", fontsize=11)
        figure.savefig(part)
    return path


def _draw_layers(axis: Any, layers: Sequence[LayerAudit]) -> None:
    places = range(len(layers))
    own = [0.0 if math.isnan(layer.own_error) else layer.own_error for layer in layers]
    border = [0.0 if math.isnan(layer.border_error) else layer.border_error for layer in layers]
    axis.bar(places, own, color="C5", label="added by the layer alone")
    axis.bar(places, border, color="C2", label="of that, at the border")
    axis.plot(
        places,
        [layer.error for layer in layers],
        ".-",
        color="C0",
        lw=1,
        label="error of its output",
    )
    names = [f"{layer.name} ({layer.kind})" for layer in layers]
    axis.set_xticks(list(places), names, rotation=90, fontsize=7)
    for label, layer in zip(axis.get_xticklabels(), layers, strict=True):
        label.set_color("C2" if layer.reason else "C0")
    axis.set_ylabel("equivariance error, shift by 1 pixel")
    axis.set_ylim(bottom=0)
    axis.margins(x=0.01)
    axis.grid(visible=False, axis="x")
    axis.legend()


def _record(model: nn.Module, x: Tensor) -> list[_Call]:
    """Run a network, and keep what goes into its layers and what comes out."""
    calls: list[_Call] = []
    inputs: list[Tensor] = []
    names = {module: name or type(module).__name__ for name, module in model.named_modules()}

    def before(layer: nn.Module, args: tuple[Any, ...]) -> None:
        if len(args) != 1 or not isinstance(args[0], Tensor):
            raise TypeError(f"Expected {names[layer]} to take one tensor, but got {len(args)}.")
        inputs.append(args[0].clone())  # layers may work in place

    def after(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del args
        if not isinstance(output, Tensor):
            raise TypeError(
                f"Expected {names[layer]} to return one tensor, but got {type(output).__name__}."
            )
        number = 1 + sum(call.layer is layer for call in calls)
        name = names[layer] if number == 1 else f"{names[layer]}#{number}"
        calls.append(_Call(name, layer, inputs.pop(), output.clone()))

    leaves = [module for module in names if not any(True for _ in module.children())]
    handles = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    handles += [leaf.register_forward_hook(after) for leaf in leaves]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _known_stride(
    strides: dict[tuple[int, ...], tuple[int, ...]], before: Tensor, after: Tensor
) -> tuple[int, ...]:
    """Return the stride that leads from the network's input to maps as large as `after`."""
    size, origin = tuple(after.shape[2:]), tuple(before.shape[2:])
    if size not in strides:
        start = strides.get(origin, next(iter(strides.values())))
        if after.ndim == before.ndim == len(start) + 2:
            steps = own_stride(before, after)
            strides[size] = tuple(a * b for a, b in zip(start, steps, strict=True))
    return strides.get(size, next(iter(strides.values())))


def _change_of_size(
    before: Tensor, after: Tensor, strides: dict[tuple[int, ...], tuple[int, ...]]
) -> str:
    """Describe what a function between two layers did to the size; empty if nothing."""
    if after.ndim < before.ndim and after[0].numel() > before.shape[1]:  # more than one a channel
        return "flattening" if after[0].numel() == before[0].numel() else "resizing, flattening"
    unknown = after.ndim == before.ndim and tuple(after.shape[2:]) not in strides
    return "resizing" if unknown and len(next(iter(strides))) == after.ndim - 2 else ""


def _measure(call: _Call, ndim: int, error: float, tolerance: float) -> LayerAudit:
    """Try one layer alone."""
    kind = type(call.layer).__name__
    size = tuple(call.y.shape[2:]) if call.y.ndim == ndim else ()
    if call.x.ndim != ndim:
        return LayerAudit(call.name, kind, size, error, 0.0, 0.0, "")
    axes = tuple(range(2, ndim))
    stride = own_stride(call.x, call.y)
    own_error, border_error = (
        shift_error(call.layer(call.x.roll(shift, axes)), call.y, shift, stride)
        for shift in ((1,) * len(axes), stride)
    )
    if call.y.ndim != ndim:
        border_error = 0.0
        reason = "flattening" if own_error > tolerance else ""
    else:
        reason = _reason(call, stride, own_error, border_error, tolerance)
    return LayerAudit(call.name, kind, size, error, own_error, border_error, reason)


def _reason(
    call: _Call, stride: tuple[int, ...], own_error: float, border_error: float, tolerance: float
) -> str:
    reasons = []
    step = "×".join(map(str, sorted(set(stride))))
    if own_error > tolerance and max(stride) > 1:
        pooling = "pooling with " if "Pool" in type(call.layer).__name__ else ""
        reasons.append(f"{pooling}stride {step}")
    if border_error > tolerance:
        reasons.append(_border(call, stride))
    return ", ".join(reasons)


def _border(call: _Call, stride: tuple[int, ...]) -> str:
    """Describe what a layer does at the border, where it does not follow a shift by its stride."""
    sizes = call.x.shape[2:]
    padding: Any = getattr(call.layer, "padding", 0)
    if padding == "same" or (not isinstance(padding, str) and torch.tensor(padding).any()):
        mode = getattr(call.layer, "padding_mode", None)
        if mode != "circular":
            return {"zeros": "zero padding"}.get(
                str(mode), f"{mode} padding" if mode else "padding"
            )
    if any(size % step for size, step in zip(sizes, stride, strict=True)):
        return f"a size of {' × '.join(map(str, sizes))}, not a multiple of the stride"
    if max(stride) == 1 and call.y.shape[2:] < sizes:
        return "no padding"
    return "dependence on position"
