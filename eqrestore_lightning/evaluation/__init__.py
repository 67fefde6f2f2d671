"""Evaluation of classifiers on moved images, with and without restorers in front."""

from eqrestore_lightning.evaluation._evaluate import evaluate
from eqrestore_lightning.evaluation._found import gate_rows, motion_found, shifts_found
from eqrestore_lightning.evaluation._measures import Outcome, register_measure
from eqrestore_lightning.evaluation._motions import shift_motions, turn_motions
from eqrestore_lightning.evaluation._report import log_to_wandb, wandb_is_offline
from eqrestore_lightning.evaluation._restorers import NO_RESTORER, Restorer, Rule
from eqrestore_lightning.evaluation._results import Evaluation, Result
from eqrestore_lightning.evaluation._rules import first_harmonic_phase, harmonic_rule, seam_rules

__all__ = [
    "NO_RESTORER",
    "Evaluation",
    "Outcome",
    "Restorer",
    "Result",
    "Rule",
    "evaluate",
    "first_harmonic_phase",
    "gate_rows",
    "harmonic_rule",
    "log_to_wandb",
    "motion_found",
    "register_measure",
    "seam_rules",
    "shift_motions",
    "shifts_found",
    "turn_motions",
    "wandb_is_offline",
]
