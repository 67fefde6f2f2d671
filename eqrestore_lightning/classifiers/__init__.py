"""Classifiers to put a restorer in front of."""

from eqrestore_lightning.classifiers._architectures import Architecture, Stem, build_classifier
from eqrestore_lightning.classifiers._small_cnn import small_cnn

__all__ = ["Architecture", "Stem", "build_classifier", "small_cnn"]
