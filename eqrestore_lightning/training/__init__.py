"""Lightning modules, a callback, and options for trainers under any launcher."""

from eqrestore_lightning.training._calibrate import calibrate
from eqrestore_lightning.training._callbacks import RestoredImageGrid, restored_image_grid
from eqrestore_lightning.training._checkpoint import AtomicCheckpointIO
from eqrestore_lightning.training._classifier import ClassifierModule, load_classifier
from eqrestore_lightning.training._draw import draw_for_batch, step_generator
from eqrestore_lightning.training._launch import trainer_options
from eqrestore_lightning.training._restorer import RestorerModule

__all__ = [
    "AtomicCheckpointIO",
    "ClassifierModule",
    "RestoredImageGrid",
    "RestorerModule",
    "calibrate",
    "draw_for_batch",
    "load_classifier",
    "restored_image_grid",
    "step_generator",
    "trainer_options",
]
