"""Measure whether a network is equivariant, and where it stops being so."""

from eqrestore_lightning.testing._audit import LayerAudit, audit, audit_table, draw_audit
from eqrestore_lightning.testing._equivariance import assert_equivariant, equivariance_error

__all__ = [
    "LayerAudit",
    "assert_equivariant",
    "audit",
    "audit_table",
    "draw_audit",
    "equivariance_error",
]
