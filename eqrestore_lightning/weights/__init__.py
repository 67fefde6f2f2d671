"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights, load_estimator, read_notes
from eqrestore_lightning.weights._card import model_card, weights_table
from eqrestore_lightning.weights._checkpoints import read_checkpoint
from eqrestore_lightning.weights._digest import content_digest
from eqrestore_lightning.weights._files import build_estimator, estimator_config, save_estimator

__all__ = [
    "build_estimator",
    "bundled_weights",
    "content_digest",
    "estimator_config",
    "load_estimator",
    "model_card",
    "read_checkpoint",
    "read_notes",
    "save_estimator",
    "weights_table",
]
