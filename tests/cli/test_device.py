"""Where the commands compute."""

import pytest
import torch

from eqrestore_lightning.cli._device import choose_device


@pytest.mark.parametrize("is_there", [True, False])
def test_auto_is_a_gpu_if_there_is_one(is_there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert choose_device() == ("cuda" if is_there else "cpu")
    assert choose_device("cpu") == "cpu"


def test_a_device_that_is_missing_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        message = f"Expected `device` to be one that this machine has, auto, cpu, but got {device}"
        with pytest.raises(ValueError, match=message):
            choose_device(device)
