"""Weights in `.safetensors`: damaged, and made to do harm with a digest that is right."""

import json
import struct

import hypothesis.strategies as st
import pytest
import torch
from fuzz.tools import NETWORK, assert_refused, damaged, examples, few_or, held, is_refused, try_all
from hypothesis import given
from hypothesis.strategies import integers, sampled_from
from safetensors.torch import save_file

from eqrestore_lightning import (
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
    load_estimator,
    save_estimator,
)
from eqrestore_lightning.nn import ProfileEstimator
from eqrestore_lightning.nn._seam_rule import SeamRule
from eqrestore_lightning.theory import ConstructedEstimator
from eqrestore_lightning.weights._digest import content_digest
from eqrestore_lightning.weights._files import estimator_config

ESTIMATORS = {
    "TranslationEstimator": TranslationEstimator(1, (6, 7), **NETWORK),
    "RotationEstimator": RotationEstimator(1, (6, 7), num_radii=3, num_angles=8, **NETWORK),
    "RotoTranslationEstimator": RotoTranslationEstimator(
        1, (6, 7), translation=NETWORK, rotation={"num_radii": 3, "num_angles": 8, **NETWORK}
    ),
    "ProfileEstimator": ProfileEstimator(1, channels=2, features=2, profile_channels=2),
    "ConstructedEstimator": ConstructedEstimator(1, (2, 3), num_templates=2, num_bits=2),
    "SeamRule": SeamRule(1),
}
TEXT = st.text("aZ0._()", max_size=9)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    integers(-9, 9) | integers(-(2**70), 2**70) | sampled_from([10**n for n in range(3, 13)]),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT | sampled_from(["full", "zeros", "exact", "os.system", "__import__('os')"]),
)
ODD = st.recursive(
    ODD, lambda x: st.lists(x, max_size=4) | st.dictionaries(TEXT, x, max_size=3), max_leaves=5
)


def load(path):
    estimator = load_estimator(path)
    return held(estimator, estimator.config)


@few_or(3_400)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_damage_is_noticed(name, count, tmp_path):
    path = tmp_path / "w.safetensors"
    save_estimator(ESTIMATORS[name], path)
    whole, right = path.read_bytes(), load(path)

    def check(content):
        path.write_bytes(content)
        assert is_refused(load, path, right) or content == whole

    try_all(count, damaged(whole), check)


def write(path, tensors, config, **notes):
    """Write weights of any content, with the digest of that content."""
    notes = {"format": "eqrestore-estimator", "config": config, **notes}
    notes["digest"] = content_digest(notes, tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, notes)


def copied(name):
    estimator = ESTIMATORS[name]
    config = json.loads(json.dumps(estimator_config(estimator)))
    return {key: value.clone() for key, value in estimator.state_dict().items()}, config


def test_what_is_written_here_loads(tmp_path):
    for name in ESTIMATORS:
        tensors, config = copied(name)
        write(tmp_path / "w.safetensors", tensors, json.dumps(config))
        load(tmp_path / "w.safetensors")


@few_or(700)
def test_a_configuration_is_used_as_it_stands_or_refused(count, tmp_path):
    path = tmp_path / "w.safetensors"

    def assert_as_stated(path, config):
        loaded = json.loads(json.dumps(estimator_config(load_estimator(path))))
        stated = {key: value for key, value in config.items() if value is not None}
        assert json.dumps({key: loaded[key] for key in stated}) == json.dumps(stated)

    @examples(count)
    @given(sampled_from([*ESTIMATORS]), st.data())
    def check(name, data):
        tensors, config = copied(name)
        place = config
        while isinstance(place, dict) and place:  # also inside arguments that are dictionaries
            inside, key = place, data.draw(sampled_from([*place, "self", "device", ""]))
            place = place.get(key)
        inside[key] = data.draw(sampled_from([place, [place], [place] * 9]) | ODD)
        write(path, tensors, json.dumps(config))
        is_refused(lambda path: assert_as_stated(path, config), path, None)

    check()


@few_or(200)
def test_no_other_class_is_built(count, tmp_path):
    path = tmp_path / "w.safetensors"
    names = ["os.system", "Estimator", "torch.nn.Linear", "eval", "Module", "", "seamrule"]

    @examples(count)
    @given(sampled_from([*ESTIMATORS]), sampled_from(names) | ODD)
    def check(name, kind):
        tensors, config = copied(name)
        write(path, tensors, json.dumps({**config, "kind": kind}))
        assert is_refused(load, path)

    check()


@few_or(200)
def test_a_configuration_that_is_not_json_is_refused(count, tmp_path):
    path = tmp_path / "w.safetensors"
    tensors, config = copied("TranslationEstimator")
    good = json.dumps(config)
    texts = ["", "[]", "null", "[" * 10**5, '{"a":' * 10**4, good[:-1], good + "}", "\ufeff" + good]
    texts += [good.replace(": 1,", f": {x},", 1) for x in ("NaN", "-Infinity", "1e999", "01")]
    texts += [good.replace("[2]", f"[{'1,' * 10**5}1]")]

    def check(text):
        write(path, tensors, text)
        assert is_refused(load, path)

    try_all(count, sampled_from(texts) | TEXT, check)


@few_or(300)
def test_tensors_that_do_not_fit_are_refused(count, tmp_path):
    path = tmp_path / "w.safetensors"

    @examples(count)
    @given(sampled_from(list(ESTIMATORS)[:-1]), st.data())
    def check(name, data):
        tensors, config = copied(name)
        floating = [key for key, value in tensors.items() if value.is_floating_point()]
        key = data.draw(sampled_from(floating))
        value = tensors.pop(key)
        others = {
            "missing": {},
            "renamed": {f"{key}.": value},
            "added": {key: value, "more": value.clone()},
            "of another shape": {key: value[None, None]},
            "of integers": {key: value.long()},
            "infinite": {key: torch.full_like(value, torch.inf)},
            "not a number": {key: torch.full_like(value, torch.nan)},
        }
        tensors |= others[data.draw(sampled_from([*others]))]
        write(path, tensors, json.dumps(config))
        assert is_refused(load, path)

    check()


@few_or(600)
def test_a_header_that_lies_is_refused(count, tmp_path):
    path = tmp_path / "w.safetensors"
    save_estimator(ESTIMATORS["TranslationEstimator"], path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    text, tensors = whole[8 : 8 + length], whole[8 + length :]
    names = [name for name in json.loads(text) if name != "__metadata__"]
    offsets = integers(-4, len(tensors) + 4) | sampled_from([10**12, 2**63, 2**64 - 1])
    lies = {
        "dtype": sampled_from(["F64", "I32", "BF16", "BOOL", "U64", "F33", None, 10**400]),
        "shape": st.lists(sampled_from([-1, 0, 1, 7, 10**6, 2**62, 1.5, "x"]), max_size=5),
        "data_offsets": st.lists(offsets, min_size=1, max_size=3),
    }

    @examples(count)
    @given(sampled_from(names), sampled_from([*lies]), st.data())
    def check(name, part, data):
        header = json.loads(text)
        lie = data.draw(lies[part].filter(lambda lie: lie != header[name][part]))
        header[name][part] = lie
        lying = json.dumps(header).encode()
        told = data.draw(sampled_from([len(lying)] * 9 + [0, 7, 2**31, 2**64 - 1]))
        path.write_bytes(struct.pack("<Q", told) + lying + tensors)
        assert is_refused(load, path)

    check()


@few_or(200)
def test_other_files_are_refused(count, tmp_path):
    path = tmp_path / "w.safetensors"
    others = [b"PK\3\4", b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n"]
    assert_refused(count, sampled_from(others) | st.binary(max_size=200), load, path)
