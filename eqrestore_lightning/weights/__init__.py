"""Save and load estimators, and those that are bundled with the package."""

from eqrestore_lightning.weights._bundled import bundled_weights, load_estimator
from eqrestore_lightning.weights._digest import content_digest
from eqrestore_lightning.weights._files import (
    add_digest,
    build_estimator,
    check_checkpoint,
    estimator_config,
    reading,
    save_estimator,
)

__all__ = [
    "add_digest",
    "build_estimator",
    "bundled_weights",
    "check_checkpoint",
    "content_digest",
    "estimator_config",
    "load_estimator",
    "reading",
    "save_estimator",
]
