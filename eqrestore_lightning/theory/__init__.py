"""The paper's theory as running code: Theorem 3.4 both ways, aperiodic sets, Theorem 4.5."""

from eqrestore_lightning.theory._aperiodic import Translate, find_translates, is_aperiodic
from eqrestore_lightning.theory._binary import BinaryDecomposition
from eqrestore_lightning.theory._circulant import (
    ImpulseResponse,
    circulant_matrix,
    impulse_response,
    is_circulant,
)
from eqrestore_lightning.theory._constructive import ConstructedEstimator
from eqrestore_lightning.theory._templates import TemplateEstimator

__all__ = [
    "BinaryDecomposition",
    "ConstructedEstimator",
    "ImpulseResponse",
    "TemplateEstimator",
    "Translate",
    "circulant_matrix",
    "find_translates",
    "impulse_response",
    "is_aperiodic",
    "is_circulant",
]
