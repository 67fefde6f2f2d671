"""Functions from tensors to tensors, without state."""

from eqrestore_lightning.functional._circular_conv import (
    CONV_METHODS,
    ConvMethod,
    circular_conv,
    full_size_filters,
)
from eqrestore_lightning.functional._errors import (
    circular_error,
    consistency,
    motion_accuracy,
    motion_distance,
)
from eqrestore_lightning.functional._exact import (
    as_float64,
    best_index,
    content_keys,
)
from eqrestore_lightning.functional._registration import (
    Normalization,
    Registration,
    find_between,
)
from eqrestore_lightning.functional._rotation import (
    Fill,
    Interpolation,
    mirror,
    quarter_turn,
    rotate,
    to_polar,
)
from eqrestore_lightning.functional._shift import (
    check_axes,
    circular_shift,
    index_to_shift,
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
    "Interpolation",
    "Normalization",
    "Registration",
    "as_float64",
    "best_index",
    "check_axes",
    "circular_conv",
    "circular_error",
    "circular_shift",
    "consistency",
    "content_keys",
    "find_between",
    "full_size_filters",
    "index_to_shift",
    "mirror",
    "motion_accuracy",
    "motion_distance",
    "quarter_turn",
    "random_shift",
    "rotate",
    "scores_to_margin",
    "scores_to_shift",
    "shift_to_index",
    "to_polar",
    "zero_fill_shift",
]
