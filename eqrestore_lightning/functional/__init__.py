"""Tensor in, tensor out, no state."""

from eqrestore_lightning.functional._circular_conv import CONV_METHODS, ConvMethod, circular_conv
from eqrestore_lightning.functional._consistency import (
    circular_shift_distance,
    circular_shift_error,
    same_class,
)
from eqrestore_lightning.functional._shift import (
    circular_shift,
    random_shift,
    scores_to_margin,
    scores_to_shift,
    shift_to_index,
    zero_fill_shift,
)

__all__ = [
    "CONV_METHODS",
    "ConvMethod",
    "circular_conv",
    "circular_shift",
    "circular_shift_distance",
    "circular_shift_error",
    "random_shift",
    "same_class",
    "scores_to_margin",
    "scores_to_shift",
    "shift_to_index",
    "zero_fill_shift",
]
