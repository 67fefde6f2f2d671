"""Classifiers to place behind a restorer."""

from eqrestore_lightning.classifiers._architectures import build_classifier, register_classifier

__all__ = ["build_classifier", "register_classifier"]
