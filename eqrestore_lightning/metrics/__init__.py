"""Metrics, thin state over `functional`."""

from eqrestore_lightning.metrics._shift import (
    CircularShiftDistance,
    ShiftAccuracy,
    ShiftConsistency,
)

__all__ = ["CircularShiftDistance", "ShiftAccuracy", "ShiftConsistency"]
