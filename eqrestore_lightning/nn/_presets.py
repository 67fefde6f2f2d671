"""Networks that work well, by name."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.nn._any_size import ProfileEstimator
from eqrestore_lightning.nn._base import Estimator
from eqrestore_lightning.nn._copies import CopiesEstimator
from eqrestore_lightning.nn._rotation import RotationEstimator
from eqrestore_lightning.nn._roto_translation import RotoTranslationEstimator
from eqrestore_lightning.nn._translation import TranslationEstimator

Preset: TypeAlias = Callable[..., Estimator]

_PRESETS: Registry[Preset] = Registry("a preset", "name")
list_presets = _PRESETS.names
# Local filters, then sums along whole rows and columns.
_SEAM: dict[str, Any] = {
    "hidden_channels": [16, 16, 16, 16, 16],
    "kernel_size": [3, 3, 3, "full", 3, 1],
    "dilation": [1, 1, 2, 1, 1, 1],
    "bias": True,
    "skip": True,
    "separable": [False, False, False, True, False, False],
    "bits": 8,
}
_ROTATION: dict[str, Any] = {
    "num_angles": 72,
    "hidden_channels": [32] * 6,
    "kernel_size": [9] * 6 + [1],
    "dilation": [1, 1, 2, 2, 4, 4, 1],
    "bias": True,
    "skip": True,
    "bits": 8,
}


def register_preset(function: Preset) -> Preset:
    """Register a preset under the name of its function, with `-` for `_`.

    It builds an estimator from `in_channels`, `spatial_size` and further options.

    >>> @register_preset
    ... def two_layers(in_channels, spatial_size, **options):
    ...     options = {"hidden_channels": [4], "kernel_size": 3, **options}
    ...     return TranslationEstimator(in_channels, spatial_size, **options)
    >>> build_preset("two-layers", 1, (8, 9)).spatial_size
    (8, 9)
    >>> del _PRESETS["two-layers"]
    """
    return _PRESETS.register(function, name=function.__name__.replace("_", "-"))


def build_preset(
    name: str, in_channels: int, spatial_size: Sequence[int], **options: Any
) -> Estimator:
    """Build the estimator of a preset, with fresh weights.

    Args:
        name: One of `list_presets()`.
        in_channels: Channels of the images.
        spatial_size: Size of each spatial axis of the images, pixels.
        options: Arguments of the estimator that replace those of the preset.

    Returns:
        The estimator.

    Raises:
        ValueError: If `name` is unknown, or the estimator cannot be built.

    >>> build_preset("border", 3, (40, 40)).shifted_size
    (40, 40)
    """
    return _PRESETS.find(name)(in_channels, spatial_size, **options)


@register_preset
def paper(in_channels: int, spatial_size: Sequence[int], **options: Any) -> Estimator:
    """Build the paper's network: six layers, kernel 9, one channel."""
    return TranslationEstimator(in_channels, spatial_size, **options)


@register_preset
def seam(in_channels: int, spatial_size: Sequence[int], **options: Any) -> Estimator:
    """Build a network that finds where an image without border wraps around."""
    return TranslationEstimator(in_channels, spatial_size, **{**_SEAM, **options})


@register_preset
def photo(in_channels: int, spatial_size: Sequence[int] = (), **options: Any) -> Estimator:
    """Build a network that finds where photographs of any size wrap around."""
    del spatial_size
    return ProfileEstimator(in_channels, **options)


@register_preset
def border(in_channels: int, spatial_size: Sequence[int], **options: Any) -> Estimator:
    """Build one linear layer of full-size filters, which suffice for images in a blank border."""
    network: dict[str, Any] = {"hidden_channels": [], "kernel_size": "full", "separable": True}
    return TranslationEstimator(in_channels, spatial_size, **{**network, **options})


@register_preset
def centered(in_channels: int, spatial_size: Sequence[int], **options: Any) -> Estimator:
    """Build six full-size filters, which suffice for objects placed by their center of mass."""
    network: dict[str, Any] = {
        "hidden_channels": [6],
        "kernel_size": ["full", 1],
        "bias": True,
        "separable": True,
    }
    return TranslationEstimator(in_channels, spatial_size, **{**network, **options})


@register_preset
def rotation(in_channels: int, spatial_size: Sequence[int], **options: Any) -> Estimator:
    """Build a network that finds the angle of images turned about their center."""
    network = {**_ROTATION, "num_radii": max(1, min(spatial_size) // 2)}
    return RotationEstimator(in_channels, spatial_size, **{**network, **options})


@register_preset
def upright(in_channels: int, spatial_size: Sequence[int] = (), **options: Any) -> Estimator:
    """Build a network that finds quarter turns of images of any size."""
    del spatial_size
    return CopiesEstimator(in_channels, **options)


@register_preset
def roto_translation(
    in_channels: int,
    spatial_size: Sequence[int],
    *,
    translation: dict[str, Any] | None = None,
    rotation: dict[str, Any] | None = None,
    **options: Any,
) -> Estimator:
    """Build a network that finds shift and angle; `options` are for the part that finds angles."""
    angle = {**_ROTATION, "num_radii": max(1, min(spatial_size) // 2), **options}
    return RotoTranslationEstimator(
        in_channels,
        spatial_size,
        translation={**_SEAM, **(translation or {})},
        rotation={**angle, **(rotation or {})},
    )
