"""The network that `eqrestore fit` trains."""

from typing import Any

from eqrestore_lightning.cli._fit_data import FitData
from eqrestore_lightning.data import PhotoCropDataModule
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.motions._product import replace_shift
from eqrestore_lightning.nn import Estimator, build_preset
from eqrestore_lightning.weights import load_estimator
from eqrestore_lightning.weights._files import build_estimator, estimator_config


def open_estimator(
    network: str, source: str | None, data: FitData, *, axes: list[int] | None, corners: str | None
) -> Estimator:
    """Load the estimator to continue from, or build one with random weights, to fit the data."""
    sizes = data.crop_sizes if isinstance(data, PhotoCropDataModule) else (data.spatial_size,)
    given = {"axes": axes, "corners": corners}
    given = {name: value for name, value in given.items() if value is not None}
    options = {"fill" if name == "corners" else name: value for name, value in given.items()}
    try:
        if source is None:
            estimator = build_preset(network, data.in_channels, sizes[0], **options)
        else:
            estimator = _changed(load_estimator(source), options)
    except TypeError as error:
        raise ValueError(
            f"Expected {' and '.join(f'`{name}`' for name in given)} only for a network that takes "
            f"it, but got {given} for {source or network}."
        ) from error
    for size in sizes:
        expected = (estimator.in_channels, *(estimator.spatial_size or size))
        if expected != (data.in_channels, *size):
            raise ValueError(
                f"Expected images of shape {expected} (channels, then size), for which the network "
                f"was made, but got {(data.in_channels, *size)}."
            )
    return estimator


def _changed(estimator: Estimator, options: dict[str, Any]) -> Estimator:
    """Return an estimator with other options, or raise `TypeError` if its weights allow none."""
    if not options:
        return estimator
    try:
        changed = build_estimator({**estimator_config(estimator), **options})
        changed.load_state_dict(estimator.state_dict())
    except (RuntimeError, ValueError) as error:
        raise TypeError(str(error)) from error
    return changed


def motion_to_train(estimator: Estimator, max_shift: int) -> Motion | None:
    """Return the motion to train for, if it is not the estimator's own."""
    if max_shift == 0:
        return None
    names = [field.name for field in estimator.motion.fields]
    if "shift" not in names:
        raise ValueError(
            f"Expected `max_shift` to be 0 for a network that does not find shifts, but only "
            f"({', '.join(names)}); got {max_shift}."
        )
    return replace_shift(estimator.training_motion, max_shift=max_shift, fill="zeros")
