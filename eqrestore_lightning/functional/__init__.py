"""Functions from tensors to tensors, without state."""

from eqrestore_lightning.functional._circular_conv import circular_conv
from eqrestore_lightning.functional._errors import consistency, motion_accuracy, motion_distance
from eqrestore_lightning.functional._registration import Registration, find_between
from eqrestore_lightning.functional._rotation import quarter_turn, rotate, to_polar
from eqrestore_lightning.functional._shift import (
    circular_shift,
    random_shift,
    scores_to_shift,
    zero_fill_shift,
)

__all__ = [
    "Registration",
    "circular_conv",
    "circular_shift",
    "consistency",
    "find_between",
    "motion_accuracy",
    "motion_distance",
    "quarter_turn",
    "random_shift",
    "rotate",
    "scores_to_shift",
    "to_polar",
    "zero_fill_shift",
]
