"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights, load_estimator, read_notes
from eqrestore_lightning.weights._card import weights_table
from eqrestore_lightning.weights._files import build_estimator, save_estimator

__all__ = [
    "build_estimator",
    "bundled_weights",
    "load_estimator",
    "read_notes",
    "save_estimator",
    "weights_table",
]
