"""Train and judge: Lightning modules, callbacks and evaluation."""

from eqrestore_lightning.training._callbacks import RestoredImageGrid, restored_image_grid
from eqrestore_lightning.training._classifier import ClassifierModule, load_classifier
from eqrestore_lightning.training._draw import draw_for_batch, step_generator
from eqrestore_lightning.training._evaluate import (
    Restorer,
    ShiftKind,
    ShiftResult,
    evaluate_shifts,
    shift_table,
)
from eqrestore_lightning.training._evaluate_rotations import (
    RotationResult,
    evaluate_rotations,
    rotation_table,
)
from eqrestore_lightning.training._launch import trainer_options
from eqrestore_lightning.training._restorer import RestorerModule, ShiftFill

__all__ = [
    "ClassifierModule",
    "RestoredImageGrid",
    "Restorer",
    "RestorerModule",
    "RotationResult",
    "ShiftFill",
    "ShiftKind",
    "ShiftResult",
    "draw_for_batch",
    "evaluate_rotations",
    "evaluate_shifts",
    "load_classifier",
    "restored_image_grid",
    "rotation_table",
    "shift_table",
    "step_generator",
    "trainer_options",
]
