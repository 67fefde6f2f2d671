"""Lightning modules, a callback, and options for trainers under any launcher."""

from eqrestore_lightning.training._calibrate import calibrate
from eqrestore_lightning.training._callbacks import RestoredImageGrid
from eqrestore_lightning.training._checkpoint import AtomicCheckpointIO
from eqrestore_lightning.training._classifier import ClassifierModule, load_classifier
from eqrestore_lightning.training._launch import trainer_options
from eqrestore_lightning.training._restorer import RestorerModule

__all__ = [
    "AtomicCheckpointIO",
    "ClassifierModule",
    "RestoredImageGrid",
    "RestorerModule",
    "calibrate",
    "load_classifier",
    "trainer_options",
]
