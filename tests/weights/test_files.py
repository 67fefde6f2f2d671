import json
import pickle
import re
import struct

import lightning
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.torch import save_file
from torch.testing import assert_close

from eqrestore_lightning.nn import (
    ESTIMATORS,
    QuarterTurnEstimator,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)
from eqrestore_lightning.training import RestorerModule
from eqrestore_lightning.weights import (
    build_estimator,
    estimator_config,
    load_estimator,
    save_estimator,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*holds no digest")  # files made by hand

NETWORK = {"hidden_channels": [2], "kernel_size": ["full", 1], "bias": True, "separable": True}


ROTATION = {"num_radii": 3, "num_angles": 8, "hidden_channels": [2], "kernel_size": [3, 1]}
OTHERS = {
    "rotation": lambda: RotationEstimator(1, (6, 7), **ROTATION, sub_grid=False, fill="border"),
    "quarter turns": lambda: QuarterTurnEstimator(2, (6, 6), mirrors=True, **NETWORK),
    "both": lambda: RotoTranslationEstimator(1, (6, 7), translation=NETWORK, rotation=ROTATION),
}


@pytest.fixture
def estimator():
    return TranslationEstimator(1, (6, 7), **NETWORK)


@pytest.fixture
def saved(estimator, tmp_path):
    save_estimator(estimator, tmp_path / "e.safetensors", metadata={"made by": "a test"})
    return tmp_path / "e.safetensors"


@pytest.fixture
def checkpoint(estimator, tmp_path):
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, default_root_dir=tmp_path, enable_progress_bar=False
    )
    trainer.strategy.connect(RestorerModule(estimator))
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    return tmp_path / "e.ckpt"


@pytest.mark.parametrize("kind", ["saved", "checkpoint"])
def test_round_trip(kind, estimator, request):
    loaded = load_estimator(request.getfixturevalue(kind))
    assert loaded.config == estimator.config
    assert not loaded.training
    x = torch.rand(3, 1, 6, 7)
    assert torch.equal(loaded(x), estimator(x))


@pytest.mark.parametrize("level", [None, 0.0, -0.4375])
@pytest.mark.parametrize("kind", ["saved", "checkpoint"])
def test_what_is_known_of_the_images_is_kept(kind, level, estimator, request):
    estimator.lowest_level = level
    assert load_estimator(request.getfixturevalue(kind)).lowest_level == level


@pytest.mark.parametrize("level", ["1.5", "-1.1", "nan", "low", "[0]"])
def test_a_level_that_is_none_is_refused(level, estimator, tmp_path):
    save_estimator(estimator, tmp_path / "e.safetensors", metadata={"lowest_level": level})
    message = f"to hold an estimator, but got: a `lowest_level` of '{level}', not from -1 to 1."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_estimator(tmp_path / "e.safetensors")


@pytest.mark.parametrize("kind", OTHERS)
def test_round_trip_of_other_kinds(kind, tmp_path):
    estimator = OTHERS[kind]()
    assert json.loads(json.dumps(estimator_config(estimator))) == estimator_config(estimator)
    save_estimator(estimator, tmp_path / "e.safetensors")
    loaded = load_estimator(tmp_path / "e.safetensors")
    assert type(loaded) is type(estimator)
    assert loaded.config == estimator.config
    x = torch.rand(3, estimator.in_channels, *estimator.spatial_size)
    scores = estimator.exact_scores(x)
    assert torch.equal(loaded.exact_scores(x), scores)
    found = estimator.locate(scores, x)
    assert_close(loaded.locate(scores, x), found, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("rotation", {"num_radii": "many"}),
        ("rotation", {"num_angles": 2.5}),
        ("rotation", {"max_radius": "far"}),
        ("rotation", {"fill": ["zeros"]}),
        ("rotation", {"spatial_size": [6, 7, 8]}),
        ("rotation", {"num_radii": 10**6, "num_angles": 10**6}),
        ("quarter turns", {"spatial_size": [6, 7]}),
        ("quarter turns", {"mirrors": 1, "more": 2}),
        ("both", {"translation": None}),
        ("both", {"rotation": {"in_channels": 2}}),
        ("rotation", {"axes": [-1]}),
        ("quarter turns", {"axes": [-1]}),
        ("both", {"translation": {**NETWORK, "axes": [-1]}}),
        ("both", {"rotation": {**ROTATION, "axes": [-1]}}),
        ("both", {"rotation": "RotationEstimator"}),
    ],
)
def test_malformed_configurations_of_other_kinds_are_refused(kind, change, tmp_path):
    path = tmp_path / "e.safetensors"
    estimator = OTHERS[kind]()
    _write(path, estimator)
    load_estimator(path)
    _write(path, estimator, config={**estimator_config(estimator), **change})
    with pytest.raises(ValueError, match="to hold an estimator, but got: "):
        load_estimator(path)


def test_files_from_before_there_were_axes_load(estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    config = estimator_config(estimator)
    del config["axes"]
    _write(path, estimator, config=config)
    loaded = load_estimator(path)
    assert loaded.config == estimator.config
    x = torch.rand(3, 1, 6, 7)
    assert torch.equal(loaded.exact_scores(x), estimator.exact_scores(x))
    content = {
        "hyper_parameters": {"estimator": config, "max_shift": 4, "fill": "zeros", "seed": 0},
        "state_dict": {
            "log_scale": torch.tensor(0.0),
            **{f"estimator.{name}": value for name, value in estimator.state_dict().items()},
        },
    }
    torch.save(content, tmp_path / "e.ckpt")
    loaded = load_estimator(tmp_path / "e.ckpt")
    assert torch.equal(loaded.exact_scores(x), estimator.exact_scores(x))


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_do_not_name_axes(kind):
    assert "axes" not in json.dumps(estimator_config(OTHERS[kind]()))


def test_files_keep_the_axes(tmp_path):
    estimator = TranslationEstimator(1, (6, 7), axes=(-1,), **NETWORK)
    save_estimator(estimator, tmp_path / "e.safetensors")
    loaded = load_estimator(tmp_path / "e.safetensors")
    assert loaded.axes == (-1,)
    x = torch.rand(3, 1, 6, 7)
    assert torch.equal(loaded.exact_scores(x), estimator.exact_scores(x))


def test_the_factor_of_the_loss_becomes_part_of_the_estimator(tmp_path, estimator):
    module = RestorerModule(estimator)
    module.log_scale.data.fill_(2.0)
    trainer = lightning.Trainer(logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    x = torch.rand(3, 1, 6, 7)
    assert_close(load_estimator(tmp_path / "e.ckpt")(x), module(x))


def test_config_is_plain_json(estimator):
    config = estimator_config(estimator)
    assert json.loads(json.dumps(config)) == config
    assert build_estimator(config).config == estimator.config


def test_only_known_kinds_are_saved(tmp_path):
    class Other(TranslationEstimator):
        pass

    with pytest.raises(
        TypeError,
        match=re.escape(f"one of {sorted(ESTIMATORS)}, or of a class with `@register_estimator`, ")
        + "but got Other",
    ):
        save_estimator(Other(1, (9, 9)), tmp_path / "e.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_saving_needs_an_ending_and_a_folder(estimator, tmp_path):
    with pytest.raises(ValueError, match=r"Expected `path` to end in \.safetensors, but got"):
        save_estimator(estimator, tmp_path / "e.pt")
    with pytest.raises(FileNotFoundError, match="Expected the folder of `path` to exist, but got"):
        save_estimator(estimator, tmp_path / "no" / "e.safetensors")


def test_a_failed_write_leaves_the_old_file(estimator, saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    with pytest.raises(OSError, match="disk full"):
        save_estimator(estimator, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def _fail(*_):
    raise OSError("disk full")


def test_missing_files_and_unknown_names(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a file of weights, but found none at"):
        load_estimator(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match=r"Expected `source` to be one of \[.*\] or a path"):
        load_estimator("no-such-name")
    (tmp_path / "e.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Expected `path` to end in \.safetensors or \.ckpt"):
        load_estimator(tmp_path / "e.pth")


class _Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"estimator": _Malicious()}}, path)
    with pytest.raises(ValueError, match="to be a checkpoint of tensors and plain values"):
        load_estimator(path)
    path.write_bytes(pickle.dumps(_Malicious()))
    with pytest.raises(ValueError, match="to be a checkpoint of tensors and plain values"):
        load_estimator(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "its hyper-parameters name no `estimator`"),
        ({"state_dict": {}}, "its hyper-parameters name no `estimator`"),
        ({"hyper_parameters": {"learning_rate": 1.0}}, "its hyper-parameters name no `estimator`"),
        ({"hyper_parameters": {"estimator": {}}}, "to hold a `state_dict`, but got NoneType"),
        (
            {"hyper_parameters": {"estimator": 3}, "state_dict": {}},
            "a configuration of type int, not a mapping",
        ),
        (
            {"hyper_parameters": {"estimator": {"kind": "Other"}}, "state_dict": {}},
            "Expected `config['kind']` to be one of {kinds}, but got 'Other'",
        ),
    ],
)
def test_other_checkpoints_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "e.ckpt")
    message = message.format(kinds=sorted(ESTIMATORS))
    with pytest.raises(ValueError, match=re.escape(message)):
        load_estimator(tmp_path / "e.ckpt")


def _write(path, estimator, *, state=None, config=None, metadata=None):
    tensors = estimator.state_dict() if state is None else state
    description = estimator_config(estimator) if config is None else config
    notes = {"format": "eqrestore-estimator", "config": json.dumps(description)}
    save_file(
        {name: value.clone() for name, value in tensors.items()},
        path,
        notes if metadata is None else metadata,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layers.0.bias"), "missing tensors ['layers.0.bias']"),
        (lambda state: state.update(extra=torch.zeros(1)), "unknown tensors ['extra']"),
        (
            lambda state: state.update({"layers.0.bias": torch.zeros(3)}),
            "layers.0.bias of shape (3,), not (2,)",
        ),
        (
            lambda state: state.update({"layers.0.bias": torch.zeros(2, dtype=torch.int64)}),
            "layers.0.bias, which is not a floating tensor",
        ),
        (
            lambda state: state.update({"layers.0.bias": torch.tensor([0.0, float("nan")])}),
            "layers.0.bias with entries that are not finite",
        ),
    ],
)
def test_tensors_must_fit_strictly(change, message, estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    state = estimator.state_dict()
    _write(path, estimator, state=state)
    load_estimator(path)
    change(state)
    _write(path, estimator, state=state)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_estimator(path)


def test_a_configuration_cannot_claim_memory(estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    config = {**estimator_config(estimator), "spatial_size": [10**6, 10**6]}
    _write(path, estimator, config=config)
    with pytest.raises(ValueError, match=re.escape("of shape (2, 1, 6), not (2, 1, 1000000)")):
        load_estimator(path)


def test_a_checkpoint_cannot_claim_memory(estimator, tmp_path):
    config = {**estimator_config(estimator), "spatial_size": [10**6, 10**6]}
    claimed = {
        f"estimator.{name}": torch.zeros(1).expand(2, 1, 10**6) if "0.weight" in name else value
        for name, value in estimator.state_dict().items()
    }
    path = tmp_path / "e.ckpt"
    torch.save({"hyper_parameters": {"estimator": config}, "state_dict": claimed}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="which claims more entries than the file holds"):
        load_estimator(path)


@pytest.mark.parametrize("log_scale", [float("nan"), float("inf"), 1e9])
def test_a_factor_that_is_not_finite_is_refused(log_scale, estimator, tmp_path):
    content = {
        "hyper_parameters": {"estimator": estimator_config(estimator)},
        "state_dict": {f"estimator.{k}": v for k, v in estimator.state_dict().items()},
    }
    content["state_dict"]["log_scale"] = torch.tensor(log_scale)
    torch.save(content, tmp_path / "e.ckpt")
    with pytest.raises(ValueError, match="Expected `factor` to be finite and above 0, but got"):
        load_estimator(tmp_path / "e.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"spatial_size": "large"},
        {"spatial_size": [2**70]},
        {"hidden_channels": None},
        {"hidden_channels": [1.5]},
        {"kernel_size": [[]]},
        {"dilation": "x"},
        {"bias": {}, "more": 1},
        {"in_channels": -1},
    ],
)
def test_malformed_configurations_are_refused(change, estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    _write(path, estimator, config={**estimator_config(estimator), **change})
    with pytest.raises(ValueError, match="to hold an estimator, but got: "):
        load_estimator(path)


def test_files_of_other_programs_are_refused(estimator, tmp_path):
    path = tmp_path / "e.safetensors"
    _write(path, estimator, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="to be written by `save_estimator`, but its metadata"):
        load_estimator(path)
    _write(path, estimator, metadata={"format": "eqrestore-estimator", "config": "{"})
    with pytest.raises(ValueError, match=r"Expected the configuration in .* to be JSON"):
        load_estimator(path)
    path.write_bytes(struct.pack("<Q", 2**60))
    with pytest.raises(ValueError, match="to be a safetensors file, but got"):
        load_estimator(path)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["saved", "checkpoint"])
def test_damaged_files_load_fully_or_are_refused(kind, data, request, tmp_path):
    content = bytearray(request.getfixturevalue(kind).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    damaged = tmp_path / f"damaged{request.getfixturevalue(kind).suffix}"
    damaged.write_bytes(content)
    try:
        loaded = load_estimator(damaged)
    except ValueError as error:
        assert str(damaged) in str(error)  # noqa: PT017
    else:
        assert all(value.isfinite().all() for value in loaded.state_dict().values())
