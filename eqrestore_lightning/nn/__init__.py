"""Layers and networks."""

from eqrestore_lightning.nn._base import Estimator, TrainableEstimator
from eqrestore_lightning.nn._circular_conv import CircularConv1d, CircularConv2d, CircularConv3d
from eqrestore_lightning.nn._estimator import TranslationEstimator
from eqrestore_lightning.nn._quarter_turn import QuarterTurnEstimator
from eqrestore_lightning.nn._rotation import RotationEstimator
from eqrestore_lightning.nn._roto_translation import RotoTranslationEstimator

__all__ = [
    "CircularConv1d",
    "CircularConv2d",
    "CircularConv3d",
    "Estimator",
    "QuarterTurnEstimator",
    "RotationEstimator",
    "RotoTranslationEstimator",
    "TrainableEstimator",
    "TranslationEstimator",
]
