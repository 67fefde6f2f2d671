"""Measure whether a network is equivariant, and where it stops being so."""

from eqrestore_lightning.testing._audit import LayerAudit, audit
from eqrestore_lightning.testing._equivariance import assert_equivariant, equivariance_error

__all__ = [
    "LayerAudit",
    "assert_equivariant",
    "audit",
    "equivariance_error",
]
