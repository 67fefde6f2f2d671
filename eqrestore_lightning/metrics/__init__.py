"""Metrics, thin state over `functional`."""

from eqrestore_lightning.metrics._angle import AngleAccuracy, AngleDistance
from eqrestore_lightning.metrics._shift import (
    CircularShiftDistance,
    ShiftAccuracy,
    ShiftConsistency,
)

__all__ = [
    "AngleAccuracy",
    "AngleDistance",
    "CircularShiftDistance",
    "ShiftAccuracy",
    "ShiftConsistency",
]
