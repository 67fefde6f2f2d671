"""Metrics: thin state over the functions of the same names in `functional`."""

from eqrestore_lightning.metrics._consistency import Consistency
from eqrestore_lightning.metrics._motion import MotionAccuracy, MotionDistance

__all__ = ["Consistency", "MotionAccuracy", "MotionDistance"]
