"""Arguments in files have the types that constructors are annotated with."""

import re

import pytest

from eqrestore_lightning import RotationEstimator, TranslationEstimator
from eqrestore_lightning.nn import CopiesEstimator
from eqrestore_lightning.nn._seam_rule import SeamRule
from eqrestore_lightning.weights._files import build_estimator, estimator_config

NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1]}
ESTIMATORS = {
    "shift": lambda: TranslationEstimator(1, (6, 7), **NETWORK),
    "turn": lambda: RotationEstimator(1, (6, 7), num_radii=3, num_angles=8, **NETWORK),
    "copies": lambda: CopiesEstimator(1, resolution=16, scorer_options={"channels": [2]}),
    "rule": lambda: SeamRule(1),
}


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        ("shift", "skip", "no", "bool"),
        ("shift", "skip", 1, "bool"),
        ("shift", "bias", None, "bool"),
        ("shift", "dilation", 1.5, "int | Sequence[int]"),
        ("rule", "in_channels", 2**70, "int"),
        ("shift", "in_channels", True, "int"),
        ("turn", "skip", [], "bool"),  # an argument of the network inside
        ("turn", "sub_grid", "x", "bool"),
        ("turn", "max_radius", True, "float | None"),
        ("copies", "sub_grid", 1, "bool"),
        ("rule", "in_channels", 1.5, "int"),
    ],
)
def test_values_of_other_types_are_refused(kind, name, value, expected, tmp_path):
    config = {**estimator_config(ESTIMATORS[kind]()), name: value}
    with pytest.raises(ValueError, match=re.escape(f"Expected `{name}` to be {expected}, but got")):
        build_estimator(config)
