"""Undo translations and rotations in front of any classifier, without retraining it.

Names load on first use: who only restores images imports neither Lightning nor torchmetrics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqrestore_lightning.data import (
        CIFAR10DataModule as CIFAR10DataModule,
        DigitsDataModule as DigitsDataModule,
        ImageFolderDataModule as ImageFolderDataModule,
        MNIST3DDataModule as MNIST3DDataModule,
        MNISTDataModule as MNISTDataModule,
    )
    from eqrestore_lightning.functional import (
        circulant_matrix as circulant_matrix,
        circular_conv as circular_conv,
        circular_shift as circular_shift,
        find_between as find_between,
        find_translates as find_translates,
        impulse_response as impulse_response,
        is_aperiodic as is_aperiodic,
        is_circulant as is_circulant,
        quarter_turn as quarter_turn,
        random_shift as random_shift,
        rotate as rotate,
        scores_to_margin as scores_to_margin,
        scores_to_shift as scores_to_shift,
        to_polar as to_polar,
        zero_fill_shift as zero_fill_shift,
    )
    from eqrestore_lightning.metrics import (
        AngleAccuracy as AngleAccuracy,
        AngleDistance as AngleDistance,
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
        QuarterTurnEstimator as QuarterTurnEstimator,
        RotationEstimator as RotationEstimator,
        RotoTranslationEstimator as RotoTranslationEstimator,
        TemplateEstimator as TemplateEstimator,
        TranslationEstimator as TranslationEstimator,
    )
    from eqrestore_lightning.training import (
        ClassifierModule as ClassifierModule,
        RestorerModule as RestorerModule,
        evaluate_rotations as evaluate_rotations,
        evaluate_shifts as evaluate_shifts,
    )
    from eqrestore_lightning.transforms import (
        CanonicalCrop as CanonicalCrop,
        RestoreTransform as RestoreTransform,
    )
    from eqrestore_lightning.weights import (
        bundled_weights as bundled_weights,
        load_estimator as load_estimator,
        save_estimator as save_estimator,
    )

__version__ = "0.1.0"

_ROOMS = {
    "data": (
        "CIFAR10DataModule",
        "DigitsDataModule",
        "ImageFolderDataModule",
        "MNIST3DDataModule",
        "MNISTDataModule",
    ),
    "functional": (
        "circulant_matrix",
        "circular_conv",
        "circular_shift",
        "find_between",
        "find_translates",
        "impulse_response",
        "is_aperiodic",
        "is_circulant",
        "quarter_turn",
        "random_shift",
        "rotate",
        "scores_to_margin",
        "scores_to_shift",
        "to_polar",
        "zero_fill_shift",
    ),
    "metrics": (
        "AngleAccuracy",
        "AngleDistance",
        "CircularShiftDistance",
        "ShiftAccuracy",
        "ShiftConsistency",
    ),
    "nn": (
        "BinaryDecomposition",
        "CircularConv1d",
        "CircularConv2d",
        "CircularConv3d",
        "ConstructedEstimator",
        "QuarterTurnEstimator",
        "RotationEstimator",
        "RotoTranslationEstimator",
        "TemplateEstimator",
        "TranslationEstimator",
    ),
    "training": ("ClassifierModule", "RestorerModule", "evaluate_rotations", "evaluate_shifts"),
    "transforms": ("CanonicalCrop", "RestoreTransform"),
    "weights": ("bundled_weights", "load_estimator", "save_estimator"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "AngleAccuracy",
    "AngleDistance",
    "BinaryDecomposition",
    "CIFAR10DataModule",
    "CanonicalCrop",
    "CircularConv1d",
    "CircularConv2d",
    "CircularConv3d",
    "CircularShiftDistance",
    "ClassifierModule",
    "ConstructedEstimator",
    "DigitsDataModule",
    "ImageFolderDataModule",
    "MNIST3DDataModule",
    "MNISTDataModule",
    "QuarterTurnEstimator",
    "RestoreTransform",
    "RestorerModule",
    "RotationEstimator",
    "RotoTranslationEstimator",
    "ShiftAccuracy",
    "ShiftConsistency",
    "TemplateEstimator",
    "TranslationEstimator",
    "bundled_weights",
    "circulant_matrix",
    "circular_conv",
    "circular_shift",
    "evaluate_rotations",
    "evaluate_shifts",
    "find_between",
    "find_translates",
    "impulse_response",
    "is_aperiodic",
    "is_circulant",
    "load_estimator",
    "quarter_turn",
    "random_shift",
    "rotate",
    "save_estimator",
    "scores_to_margin",
    "scores_to_shift",
    "to_polar",
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
