"""Tensor in, tensor out, no state."""

from eqrestore_lightning.functional._circular_conv import (
    CONV_METHODS,
    ConvMethod,
    circular_conv,
    leading_bits,
)
from eqrestore_lightning.functional._consistency import (
    circular_shift_distance,
    circular_shift_error,
    same_class,
)
from eqrestore_lightning.functional._shift import (
    break_ties,
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
    "break_ties",
    "circular_conv",
    "circular_shift",
    "circular_shift_distance",
    "circular_shift_error",
    "leading_bits",
    "random_shift",
    "same_class",
    "scores_to_margin",
    "scores_to_shift",
    "shift_to_index",
    "zero_fill_shift",
]
