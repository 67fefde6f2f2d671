"""Tensor in, tensor out, no state."""

from eqrestore_lightning.functional._aperiodic import Translate, find_translates, is_aperiodic
from eqrestore_lightning.functional._circulant import (
    ImpulseResponse,
    circulant_matrix,
    impulse_response,
    is_circulant,
)
from eqrestore_lightning.functional._circular_conv import (
    CONV_METHODS,
    ConvMethod,
    circular_conv,
    leading_bits,
)
from eqrestore_lightning.functional._consistency import (
    angle_error,
    circular_shift_distance,
    circular_shift_error,
    same_class,
)
from eqrestore_lightning.functional._registration import (
    Normalization,
    Registration,
    find_between,
)
from eqrestore_lightning.functional._rotation import (
    Fill,
    Interpolation,
    quarter_turn,
    rotate,
    to_polar,
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
    "Fill",
    "ImpulseResponse",
    "Interpolation",
    "Normalization",
    "Registration",
    "Translate",
    "angle_error",
    "break_ties",
    "circulant_matrix",
    "circular_conv",
    "circular_shift",
    "circular_shift_distance",
    "circular_shift_error",
    "find_between",
    "find_translates",
    "impulse_response",
    "is_aperiodic",
    "is_circulant",
    "leading_bits",
    "quarter_turn",
    "random_shift",
    "rotate",
    "same_class",
    "scores_to_margin",
    "scores_to_shift",
    "shift_to_index",
    "to_polar",
    "zero_fill_shift",
]
