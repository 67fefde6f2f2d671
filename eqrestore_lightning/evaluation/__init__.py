"""Evaluation of classifiers on moved images, with and without restorers in front."""

from eqrestore_lightning.evaluation._evaluate import evaluate, shift_motions, turn_motions
from eqrestore_lightning.evaluation._measures import Outcome, register_measure
from eqrestore_lightning.evaluation._results import Evaluation, Result

__all__ = [
    "Evaluation",
    "Outcome",
    "Result",
    "evaluate",
    "register_measure",
    "shift_motions",
    "turn_motions",
]
