"""The paper's theory as running code: Theorem 3.4 both ways, aperiodic sets, Theorem 4.5."""

from eqrestore_lightning.theory._aperiodic import find_translates, is_aperiodic
from eqrestore_lightning.theory._circulant import circulant_matrix, impulse_response
from eqrestore_lightning.theory._constructive import ConstructedEstimator

__all__ = [
    "ConstructedEstimator",
    "circulant_matrix",
    "find_translates",
    "impulse_response",
    "is_aperiodic",
]
