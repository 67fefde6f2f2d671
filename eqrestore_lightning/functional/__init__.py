"""Functions from tensors to tensors, without state."""

from eqrestore_lightning.functional._circular_conv import circular_conv
from eqrestore_lightning.functional._registration import find_between
from eqrestore_lightning.functional._rotation import rotate, to_polar
from eqrestore_lightning.functional._shift import circular_shift

__all__ = ["circular_conv", "circular_shift", "find_between", "rotate", "to_polar"]
