"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights, load_estimator, read_notes
from eqrestore_lightning.weights._card import model_card, weights_table
from eqrestore_lightning.weights._checkpoints import add_digest, check_checkpoint, read_checkpoint
from eqrestore_lightning.weights._digest import content_digest
from eqrestore_lightning.weights._files import (
    LOWEST_LEVEL,
    build_estimator,
    check_level,
    estimator_config,
    save_estimator,
)
from eqrestore_lightning.weights._reading import reading

__all__ = [
    "LOWEST_LEVEL",
    "add_digest",
    "build_estimator",
    "bundled_weights",
    "check_checkpoint",
    "check_level",
    "content_digest",
    "estimator_config",
    "load_estimator",
    "model_card",
    "read_checkpoint",
    "read_notes",
    "reading",
    "save_estimator",
    "weights_table",
]
