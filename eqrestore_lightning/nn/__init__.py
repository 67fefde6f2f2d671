"""Layers and networks."""

from eqrestore_lightning.nn._base import Estimator, TrainableEstimator
from eqrestore_lightning.nn._circular_conv import CircularConv1d, CircularConv2d, CircularConv3d
from eqrestore_lightning.nn._estimator import TranslationEstimator
from eqrestore_lightning.nn._rotation import RotationEstimator

__all__ = [
    "CircularConv1d",
    "CircularConv2d",
    "CircularConv3d",
    "Estimator",
    "RotationEstimator",
    "TrainableEstimator",
    "TranslationEstimator",
]
