"""Evaluation of classifiers on moved images, with and without restorers in front."""

from eqrestore_lightning.evaluation._evaluate import evaluate, shift_motions, turn_motions
from eqrestore_lightning.evaluation._found import (
    count_differing,
    gate_rows,
    motion_found,
    shifts_found,
)
from eqrestore_lightning.evaluation._measures import Outcome, register_measure
from eqrestore_lightning.evaluation._restorers import Restorer, Rule
from eqrestore_lightning.evaluation._results import Evaluation, Result
from eqrestore_lightning.evaluation._rules import (
    border_rule,
    confidence_rule,
    harmonic_rule,
    quarter_rules,
    seam_rules,
    turn_rules,
)

__all__ = [
    "Evaluation",
    "Outcome",
    "Restorer",
    "Result",
    "Rule",
    "border_rule",
    "confidence_rule",
    "count_differing",
    "evaluate",
    "gate_rows",
    "harmonic_rule",
    "motion_found",
    "quarter_rules",
    "register_measure",
    "seam_rules",
    "shift_motions",
    "shifts_found",
    "turn_motions",
    "turn_rules",
]
