import pytest

from eqrestore_lightning.training._launch import trainer_options

VARIABLES = (
    "TORCHELASTIC_RUN_ID",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "WORLD_SIZE",
    "LT_ACCELERATOR",
    "LT_PRECISION",
    "LT_STRATEGY",
)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_plain_python_trains_on_one_device():
    assert trainer_options() == {"accelerator": "auto", "devices": 1, "num_nodes": 1}


def test_a_launcher_decides(monkeypatch):
    values = ("x", "2", "3", "6", "cpu", "bf16-mixed", "ddp_find_unused_parameters_true")
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    assert trainer_options() == {
        "accelerator": "cpu",
        "devices": 2,
        "num_nodes": 3,
        "strategy": "ddp_find_unused_parameters_true",
        "precision": "bf16-mixed",
    }


def test_a_launcher_of_one_process_needs_no_strategy(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "strategy" not in trainer_options()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert trainer_options()["strategy"] == "ddp"


def test_devices_may_be_asked_for():
    assert trainer_options(device="cpu", devices=4) == {
        "accelerator": "cpu",
        "devices": 4,
        "num_nodes": 1,
        "strategy": "ddp",
    }
    assert "strategy" not in trainer_options(devices=1)


def test_devices_may_not_differ_from_what_a_launcher_started(monkeypatch):
    for name, value in zip(VARIABLES, ("x", "2", "3", "6"), strict=False):
        monkeypatch.setenv(name, value)
    assert trainer_options(devices=2)["devices"] == 2
    with pytest.raises(ValueError, match="Expected `devices` to be 2, as many as the launcher"):
        trainer_options(devices=4)


def test_the_device_of_the_caller_takes_precedence(monkeypatch):
    monkeypatch.setenv("LT_ACCELERATOR", "cuda")
    assert trainer_options()["accelerator"] == "cuda"
    assert trainer_options(device="cpu")["accelerator"] == "cpu"
