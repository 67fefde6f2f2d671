"""Measure whether a network is equivariant."""

from eqrestore_lightning.testing._equivariance import assert_equivariant, equivariance_error

__all__ = ["assert_equivariant", "equivariance_error"]
