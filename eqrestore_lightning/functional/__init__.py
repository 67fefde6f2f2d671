"""Functions from tensors to tensors, without state."""

from eqrestore_lightning.functional._circular_conv import (
    CONV_METHODS,
    ConvMethod,
    circular_conv,
)
from eqrestore_lightning.functional._conv_ways import LOCAL_TAPS, full_size_filters
from eqrestore_lightning.functional._errors import (
    circular_error,
    consistency,
    motion_accuracy,
    motion_distance,
)
from eqrestore_lightning.functional._exact import (
    as_float64,
    best_index,
    best_index_by_content,
    content_hash,
    content_keys,
    hash_weights,
)
from eqrestore_lightning.functional._exact_conv import (
    ExactFilters,
    binary_unit,
    convolve_integers,
    exact_bits,
    leading_bits,
)
from eqrestore_lightning.functional._points import (
    mirror_points,
    quarter_turn_points,
    rotate_points,
    shift_points,
)
from eqrestore_lightning.functional._registration import (
    Normalization,
    Registration,
    find_between,
)
from eqrestore_lightning.functional._rotation import (
    Fill,
    Interpolation,
    mass_offset,
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
from eqrestore_lightning.functional._traced import is_traced

__all__ = [
    "CONV_METHODS",
    "LOCAL_TAPS",
    "ConvMethod",
    "ExactFilters",
    "Fill",
    "Interpolation",
    "Normalization",
    "Registration",
    "as_float64",
    "best_index",
    "best_index_by_content",
    "binary_unit",
    "check_axes",
    "circular_conv",
    "circular_error",
    "circular_shift",
    "consistency",
    "content_hash",
    "content_keys",
    "convolve_integers",
    "exact_bits",
    "find_between",
    "full_size_filters",
    "hash_weights",
    "index_to_shift",
    "is_traced",
    "leading_bits",
    "mass_offset",
    "mirror",
    "mirror_points",
    "motion_accuracy",
    "motion_distance",
    "quarter_turn",
    "quarter_turn_points",
    "random_shift",
    "rotate",
    "rotate_points",
    "scores_to_margin",
    "scores_to_shift",
    "shift_points",
    "shift_to_index",
    "to_polar",
    "zero_fill_shift",
]
