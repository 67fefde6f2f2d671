"""Classifiers to place behind a restorer."""

from typing import TypeAlias

from eqrestore_lightning.classifiers._architectures import (
    build_classifier,
    list_classifiers,
    register_classifier,
)
from eqrestore_lightning.classifiers._small_cnn import small_cnn

Architecture: TypeAlias = str  # one of `list_classifiers()`

__all__ = [
    "Architecture",
    "build_classifier",
    "list_classifiers",
    "register_classifier",
    "small_cnn",
]
