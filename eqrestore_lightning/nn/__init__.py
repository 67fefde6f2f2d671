"""Layers and estimators."""

from eqrestore_lightning.nn._any_size import ProfileEstimator
from eqrestore_lightning.nn._base import Estimator, register_estimator
from eqrestore_lightning.nn._circular_conv import (
    CircularConv,
    CircularConv1d,
    CircularConv2d,
    CircularConv3d,
)
from eqrestore_lightning.nn._confidence import ConfidenceEstimator, register_confidence
from eqrestore_lightning.nn._copies import CopiesEstimator
from eqrestore_lightning.nn._presets import build_preset, list_presets, register_preset
from eqrestore_lightning.nn._rotation import RotationEstimator
from eqrestore_lightning.nn._roto_translation import RotoTranslationEstimator
from eqrestore_lightning.nn._scorers import register_scorer
from eqrestore_lightning.nn._seam_rule import SeamRule
from eqrestore_lightning.nn._separable import SeparableShiftEstimator
from eqrestore_lightning.nn._shift import ShiftEstimator
from eqrestore_lightning.nn._translation import TranslationEstimator

__all__ = [
    "CircularConv",
    "CircularConv1d",
    "CircularConv2d",
    "CircularConv3d",
    "ConfidenceEstimator",
    "CopiesEstimator",
    "Estimator",
    "ProfileEstimator",
    "RotationEstimator",
    "RotoTranslationEstimator",
    "SeamRule",
    "SeparableShiftEstimator",
    "ShiftEstimator",
    "TranslationEstimator",
    "build_preset",
    "list_presets",
    "register_confidence",
    "register_estimator",
    "register_preset",
    "register_scorer",
]
