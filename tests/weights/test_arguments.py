"""Arguments in files have the types that constructors are annotated with."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from eqrestore_lightning import RotationEstimator, TranslationEstimator
from eqrestore_lightning.nn import SeamRule, UprightEstimator
from eqrestore_lightning.weights import (
    build_estimator,
    estimator_config,
    load_estimator,
    save_estimator,
)

NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1]}
ESTIMATORS = {
    "shift": lambda: TranslationEstimator(1, (6, 7), **NETWORK),
    "turn": lambda: RotationEstimator(1, (6, 7), num_radii=3, num_angles=8, **NETWORK),
    "upright": lambda: UprightEstimator(1, resolution=16, scorer_options={"channels": [2]}),
    "rule": lambda: SeamRule(1),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_estimators_say_of_themselves_is_accepted(kind):
    config = json.loads(json.dumps(estimator_config(ESTIMATORS[kind]())))
    assert build_estimator(config).config == ESTIMATORS[kind]().config


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
        ("upright", "num_copies", True, "int"),
        ("rule", "in_channels", 1.5, "int"),
    ],
)
def test_values_of_other_types_are_refused(kind, name, value, expected, tmp_path):
    config = {**estimator_config(ESTIMATORS[kind]()), name: value}
    with pytest.raises(ValueError, match=re.escape(f"Expected `{name}` to be {expected}, but got")):
        build_estimator(config)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"kind": "SeamRule", "in_channels": NaN}', "NaN, which is no number of JSON"),
        ('{"kind": "SeamRule", "in_channels": Infinity}', "Infinity, which is no number of JSON"),
        ('{"kind": "A", "kind": "SeamRule"}', "a name twice among ['kind', 'kind']"),
        ('{"kind": "SeamRule"' + " " * 20_000 + "}", "characters, of at most 20,000"),
        ("[" * 10_000, ""),
        ('{"in_channels": ' + "1" * 5_000 + "}", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:.*holds no digest")
def test_json_is_read_as_its_standard_has_it(text, told, tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"scale": torch.ones(())}
    notes = {"format": "eqrestore-estimator", "config": '{"kind": "SeamRule", "in_channels": 3}'}
    save_file(tensors, path, notes)
    assert load_estimator(path).in_channels == 3
    save_file(tensors, path, {**notes, "config": text})
    with pytest.raises(ValueError, match=r"the configuration in .* to be JSON, but") as error:
        load_estimator(path)
    assert told in str(error.value)


def test_a_header_that_names_a_tensor_twice_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_estimator(ESTIMATORS["rule"](), path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    entry = b', "scale": {"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    twice = header[:-1] + entry
    path.write_bytes(len(twice).to_bytes(8, "little") + twice + content[8 + length :])
    with pytest.raises(ValueError, match=r"to be a safetensors file, but got: a name twice among"):
        load_estimator(path)
