"""Undo translations in front of any classifier, without retraining it.

Names load on first use: who only restores images imports neither Lightning nor torchmetrics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqrestore_lightning.data import (
        DigitsDataModule as DigitsDataModule,
        ImageFolderDataModule as ImageFolderDataModule,
        MNISTDataModule as MNISTDataModule,
    )
    from eqrestore_lightning.functional import (
        circulant_matrix as circulant_matrix,
        circular_conv as circular_conv,
        circular_shift as circular_shift,
        find_translates as find_translates,
        impulse_response as impulse_response,
        is_aperiodic as is_aperiodic,
        is_circulant as is_circulant,
        random_shift as random_shift,
        scores_to_margin as scores_to_margin,
        scores_to_shift as scores_to_shift,
        zero_fill_shift as zero_fill_shift,
    )
    from eqrestore_lightning.metrics import (
        CircularShiftDistance as CircularShiftDistance,
        ShiftAccuracy as ShiftAccuracy,
        ShiftConsistency as ShiftConsistency,
    )
    from eqrestore_lightning.nn import (
        BinaryDecomposition as BinaryDecomposition,
        CircularConv1d as CircularConv1d,
        CircularConv2d as CircularConv2d,
        CircularConv3d as CircularConv3d,
        ConstructedEstimator as ConstructedEstimator,
        TemplateEstimator as TemplateEstimator,
        TranslationEstimator as TranslationEstimator,
    )
    from eqrestore_lightning.training import (
        ClassifierModule as ClassifierModule,
        RestorerModule as RestorerModule,
        evaluate_shifts as evaluate_shifts,
    )
    from eqrestore_lightning.transforms import RestoreTransform as RestoreTransform
    from eqrestore_lightning.weights import (
        bundled_weights as bundled_weights,
        load_estimator as load_estimator,
        save_estimator as save_estimator,
    )

__version__ = "0.1.0"

_ROOMS = {
    "data": ("DigitsDataModule", "ImageFolderDataModule", "MNISTDataModule"),
    "functional": (
        "circulant_matrix",
        "circular_conv",
        "circular_shift",
        "find_translates",
        "impulse_response",
        "is_aperiodic",
        "is_circulant",
        "random_shift",
        "scores_to_margin",
        "scores_to_shift",
        "zero_fill_shift",
    ),
    "metrics": ("CircularShiftDistance", "ShiftAccuracy", "ShiftConsistency"),
    "nn": (
        "BinaryDecomposition",
        "CircularConv1d",
        "CircularConv2d",
        "CircularConv3d",
        "ConstructedEstimator",
        "TemplateEstimator",
        "TranslationEstimator",
    ),
    "training": ("ClassifierModule", "RestorerModule", "evaluate_shifts"),
    "transforms": ("RestoreTransform",),
    "weights": ("bundled_weights", "load_estimator", "save_estimator"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "BinaryDecomposition",
    "CircularConv1d",
    "CircularConv2d",
    "CircularConv3d",
    "CircularShiftDistance",
    "ClassifierModule",
    "ConstructedEstimator",
    "DigitsDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "RestoreTransform",
    "RestorerModule",
    "ShiftAccuracy",
    "ShiftConsistency",
    "TemplateEstimator",
    "TranslationEstimator",
    "bundled_weights",
    "circulant_matrix",
    "circular_conv",
    "circular_shift",
    "evaluate_shifts",
    "find_translates",
    "impulse_response",
    "is_aperiodic",
    "is_circulant",
    "load_estimator",
    "random_shift",
    "save_estimator",
    "scores_to_margin",
    "scores_to_shift",
    "zero_fill_shift",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
