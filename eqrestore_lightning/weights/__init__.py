"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights, load_estimator
from eqrestore_lightning.weights._files import (
    LOWEST_LEVEL,
    add_digest,
    build_estimator,
    check_checkpoint,
    check_level,
    estimator_config,
    reading,
    save_estimator,
)

__all__ = [
    "LOWEST_LEVEL",
    "add_digest",
    "build_estimator",
    "bundled_weights",
    "check_checkpoint",
    "check_level",
    "estimator_config",
    "load_estimator",
    "reading",
    "save_estimator",
]
