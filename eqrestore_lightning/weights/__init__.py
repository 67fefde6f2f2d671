"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights
from eqrestore_lightning.weights._files import load_estimator, save_estimator

__all__ = ["bundled_weights", "load_estimator", "save_estimator"]
