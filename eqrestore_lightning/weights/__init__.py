"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights, load_estimator
from eqrestore_lightning.weights._checkpoints import add_digest, check_checkpoint, read_checkpoint
from eqrestore_lightning.weights._files import build_estimator, estimator_config, save_estimator
from eqrestore_lightning.weights._reading import reading

__all__ = [
    "add_digest",
    "build_estimator",
    "bundled_weights",
    "check_checkpoint",
    "estimator_config",
    "load_estimator",
    "read_checkpoint",
    "reading",
    "save_estimator",
]
