"""Classifiers to put a restorer in front of."""

from eqrestore_lightning.classifiers._small_cnn import small_cnn

__all__ = ["small_cnn"]
