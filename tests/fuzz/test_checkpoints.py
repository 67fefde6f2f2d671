"""Checkpoints: damaged, with code in them, or with parts of other kinds."""

import pickle
import tarfile
import warnings

import hypothesis.strategies as st
import pytest
import torch
from fuzz.tools import (
    NETWORK,
    damaged,
    examples,
    few_or,
    held,
    is_refused,
    payloads,
    save_checkpoint,
    try_all,
)
from hypothesis import given
from hypothesis.strategies import integers, sampled_from

from eqrestore_lightning import (
    ClassifierModule,
    RestorerModule,
    TranslationEstimator,
    load_estimator,
)
from eqrestore_lightning.training._classifier import load_classifier
from eqrestore_lightning.weights._digest import add_digest

pytestmark = pytest.mark.filterwarnings(  # what torch says of odd archives before the error
    "ignore:.*TorchScript archive", "ignore::UserWarning:torch", "ignore::FutureWarning"
)


def load_weights(path):
    estimator = load_estimator(path)
    return held(estimator, estimator.config)


def load_restorer(path):
    module = RestorerModule.load_from_checkpoint(path)
    return held(module, dict(module.hparams))


def load_whole_classifier(path):
    module = load_classifier(str(path))
    return held(module, dict(module.hparams))


LOADERS = [load_weights, load_restorer, load_whole_classifier]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return good checkpoints, by the function that loads them."""
    folder = tmp_path_factory.mktemp("good")
    restorer = RestorerModule(TranslationEstimator(1, (6, 7), **NETWORK))
    restorer = save_checkpoint(restorer, folder / "restorer.ckpt")
    classifier = save_checkpoint(ClassifierModule(1, 2), folder / "classifier.ckpt")
    return dict(zip(LOADERS, [restorer, restorer, classifier], strict=True))


@few_or(2_000, few=10)
@pytest.mark.parametrize("load", LOADERS[:2])
def test_damage_is_noticed_or_does_not_matter(load, count, whole, tmp_path):
    path = tmp_path / "c.ckpt"
    right, content = load(whole[load]), whole[load].read_bytes()

    def check(content):
        path.write_bytes(content)
        is_refused(load, path, right)

    try_all(count, damaged(content), check)


@pytest.mark.parametrize("load", LOADERS)
def test_damaged_tensors_are_noticed(load, whole, tmp_path):
    content = whole[load].read_bytes()
    state = torch.load(whole[load], weights_only=True)["state_dict"]
    weight = max(state.values(), key=torch.numel).numpy().tobytes()
    start = content.index(weight)
    path = tmp_path / "c.ckpt"

    def check(bit):
        changed = bytearray(content)
        changed[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert is_refused(load, path)

    try_all(10, integers(0, 8 * len(weight) - 1), check)


def assert_all_refuse(path):
    for load in LOADERS:
        assert is_refused(load, path)


def test_payloads_do_harm_if_they_are_unpickled(tmp_path):
    for number in range(len(payloads(tmp_path))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with warnings.catch_warnings(action="ignore"):  # of files that are left open
            pickle.loads(pickle.dumps(payloads(folder)[number]))
        assert (folder / "executed").exists()


@few_or(500, few=8)
def test_code_is_never_run(count, whole, tmp_path):
    path = tmp_path / "c.ckpt"
    parts = ["hyper_parameters", "state_dict", "callbacks", "optimizer_states", "loops", "epoch",
             "pytorch-lightning_version", "digest", "more"]  # fmt: skip

    @examples(count)
    @given(sampled_from(LOADERS), sampled_from(parts), integers(0, 11), integers(2, 5), st.data())
    def check(load, part, number, protocol, data):
        content = torch.load(whole[load], weights_only=True)
        code = payloads(tmp_path)[number]
        if isinstance(content.get(part), dict) and data.draw(st.booleans()):
            content[part][data.draw(sampled_from([*content[part], "more"]))] = [code]
        else:
            content[part] = code
        torch.save(content, path, pickle_protocol=protocol)
        assert_all_refuse(path)
        assert not (tmp_path / "executed").exists()

    check()


@few_or(200, few=8)
def test_code_in_old_formats_is_never_run(count, tmp_path):
    path = tmp_path / "c.ckpt"

    @examples(count)
    @given(integers(0, 11), integers(0, 5), sampled_from(["pickle", "before 1.6", "before 0.1.10"]))
    def check(number, protocol, form):
        content = {"state_dict": {}, "hyper_parameters": payloads(tmp_path)[number]}
        if form == "before 1.6":
            torch.save(content, path, _use_new_zipfile_serialization=False)
        else:
            path.write_bytes(pickle.dumps(content, protocol))
        if form == "before 0.1.10":
            with tarfile.open(tmp_path / "c.tar", "w") as archive:
                for name in ("sys_info", "pickle", "tensors", "storages"):
                    archive.add(path, name)
            (tmp_path / "c.tar").rename(path)
        assert_all_refuse(path)
        assert not (tmp_path / "executed").exists()

    check()


@few_or(300, few=8)
def test_other_parts_are_refused(count, whole, tmp_path):
    path = tmp_path / "c.ckpt"
    odd = [None, 3, 10**10, 2**70, float("nan"), "os.system", [], {}, {1: 2}, torch.zeros(2),
           {"kind": "os.system"}, {"class_path": "os.system", "init_args": {}}]  # fmt: skip
    tensors = [
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
        lambda value: value[..., :0],
        lambda value: list(value),
    ]

    @examples(count)
    @given(sampled_from(LOADERS[1:]), sampled_from([*odd, *tensors]), st.data())
    def check(load, other, data):
        content = torch.load(whole[load], weights_only=True)
        part = data.draw(sampled_from(["state_dict", "hyper_parameters"]))
        if callable(other):
            state = content["state_dict"]
            names = [name for name, value in state.items() if value.ndim > 1]
            name = data.draw(sampled_from(names))
            state[name] = other(state[name])
        elif data.draw(st.booleans()):
            content[part] = other
        else:
            weights = [name for name in content["state_dict"] if name != "log_scale"]
            required = weights if part == "state_dict" else REQUIRED[load]
            content[part][data.draw(sampled_from(required))] = other
        try:
            add_digest(content)
        except Exception:  # there is none of such a part
            content["digest"] = "0" * 64
        torch.save(content, path)
        assert_all_refuse(path)

    check()


REQUIRED = {load_restorer: ["estimator"], load_whole_classifier: ["in_channels", "num_classes"]}


@few_or(200, few=8)
def test_other_files_are_refused(count, tmp_path):
    path = tmp_path / "c.ckpt"
    others = [b"PK\3\4", b"PK\5\6" + bytes(18), b"\x80\x02}.", b"<html>404</html>"]

    def check(content):
        path.write_bytes(content)
        assert_all_refuse(path)

    try_all(count, sampled_from(others) | st.binary(max_size=200), check)


def test_compiled_programs_are_refused(tmp_path):
    program = torch.jit.trace(torch.nn.Identity(), torch.zeros(1))
    torch.jit.save(program, tmp_path / "c.ckpt")
    assert_all_refuse(tmp_path / "c.ckpt")
