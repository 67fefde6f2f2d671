"""Layers and estimators."""

from eqrestore_lightning.nn._any_size import ProfileEstimator
from eqrestore_lightning.nn._base import Estimator, register_estimator
from eqrestore_lightning.nn._circular_conv import CircularConv
from eqrestore_lightning.nn._confidence import ConfidenceEstimator
from eqrestore_lightning.nn._copies import CopiesEstimator
from eqrestore_lightning.nn._presets import build_preset, list_presets, register_preset
from eqrestore_lightning.nn._rotation import RotationEstimator
from eqrestore_lightning.nn._roto_translation import RotoTranslationEstimator
from eqrestore_lightning.nn._scorers import register_scorer
from eqrestore_lightning.nn._translation import TranslationEstimator

__all__ = [
    "CircularConv",
    "ConfidenceEstimator",
    "CopiesEstimator",
    "Estimator",
    "ProfileEstimator",
    "RotationEstimator",
    "RotoTranslationEstimator",
    "TranslationEstimator",
    "build_preset",
    "list_presets",
    "register_estimator",
    "register_preset",
    "register_scorer",
]
