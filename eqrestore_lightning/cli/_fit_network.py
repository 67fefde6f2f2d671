"""The network that `eqrestore fit` trains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqrestore_lightning.data._module import DataModule
    from eqrestore_lightning.nn import Estimator


def open_estimator(
    network: str,
    source: str | None,
    data: "DataModule",
    axes: list[int] | None,
    corners: str | None,
) -> "Estimator":
    """Load the estimator to continue from, or build one with random weights.

    Args:
        network: Name of the preset, if there is nothing to continue from.
        source: The weights to continue from, if any.
        data: Images or signals that it has to fit.
        axes: Axes along which it finds shifts, if they are not its own.
        corners: What enters at the corners of rotated images, if it is not its own.

    Raises:
        ValueError: If the network takes no such option, or does not fit the data.
    """
    from eqrestore_lightning.data import PhotoCropDataModule
    from eqrestore_lightning.weights import load_estimator

    sizes = data.crop_sizes if isinstance(data, PhotoCropDataModule) else (data.spatial_size or (),)
    given = {"axes": axes, "corners": corners}
    given = {name: value for name, value in given.items() if value is not None}
    if source is None:
        estimator = _build(network, data.in_channels, sizes[0], given)
    else:
        estimator = _with_options(load_estimator(source), given)
    _check_fits(estimator, data.in_channels, sizes)
    return estimator


def _with_options(estimator: "Estimator", given: dict[str, Any]) -> "Estimator":
    """Return an estimator with the same weights for other axes, if its weights allow that."""
    from eqrestore_lightning.weights._files import build_estimator, estimator_config

    if not given:
        return estimator
    try:
        changed = build_estimator({**estimator_config(estimator), **given})
        changed.load_state_dict(estimator.state_dict())
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"Expected no {_names(given)} with `start`, whose network has its own, but got {given}."
        ) from error
    return changed


def _build(
    network: str, in_channels: int, size: tuple[int, ...], given: dict[str, Any]
) -> "Estimator":
    from eqrestore_lightning.nn import build_preset

    options = {"fill" if name == "corners" else name: value for name, value in given.items()}
    try:
        return build_preset(network, in_channels, size, **options)
    except TypeError as error:
        raise ValueError(
            f"Expected {_names(given)} only for networks that take it, but got {given} for "
            f"{network!r}."
        ) from error


def _names(given: dict[str, Any]) -> str:
    return " and ".join(f"`{name}`" for name in given)


def _check_fits(estimator: "Estimator", in_channels: int, sizes: Sequence[tuple[int, ...]]) -> None:
    expected = (estimator.in_channels, *(estimator.spatial_size or sizes[0]))
    for size in sizes:
        wanted = expected if estimator.spatial_size else (estimator.in_channels, *size)
        if wanted != (in_channels, *size):
            raise ValueError(
                f"Expected images of shape {wanted} (channels, then size), for which the network "
                f"was made, but got {(in_channels, *size)}."
            )
