"""Layers and networks."""

from eqrestore_lightning.nn._base import Estimator, ShiftFunction, TrainableEstimator
from eqrestore_lightning.nn._binary import BinaryDecomposition
from eqrestore_lightning.nn._circular_conv import CircularConv1d, CircularConv2d, CircularConv3d
from eqrestore_lightning.nn._constructive import ConstructedEstimator
from eqrestore_lightning.nn._estimator import ShiftEstimator, TranslationEstimator
from eqrestore_lightning.nn._quarter_turn import QuarterTurnEstimator
from eqrestore_lightning.nn._rotation import RotationEstimator
from eqrestore_lightning.nn._roto_translation import RotoTranslationEstimator
from eqrestore_lightning.nn._templates import TemplateEstimator

__all__ = [
    "BinaryDecomposition",
    "CircularConv1d",
    "CircularConv2d",
    "CircularConv3d",
    "ConstructedEstimator",
    "Estimator",
    "QuarterTurnEstimator",
    "RotationEstimator",
    "RotoTranslationEstimator",
    "ShiftEstimator",
    "ShiftFunction",
    "TemplateEstimator",
    "TrainableEstimator",
    "TranslationEstimator",
]
