"""Options of trainers under any launcher."""

import os
from typing import Any


def trainer_options(*, device: str = "auto", devices: int | None = None) -> dict[str, Any]:
    """Return arguments of `Trainer` by which each process joins its launcher's group.

    A plain `Trainer()` would train once in each process that torchrun or Fabric has started.

    >>> trainer_options(device="cpu", devices=2)["devices"]
    2
    """
    options: dict[str, Any] = {
        "accelerator": os.environ.get("LT_ACCELERATOR", "auto") if device == "auto" else device,
        "devices": 1 if devices is None else devices,
        "num_nodes": 1,
    }
    if "LT_PRECISION" in os.environ:
        options["precision"] = os.environ["LT_PRECISION"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        started = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if devices not in (None, started):
            raise ValueError(
                f"Expected `devices` to be {started}, as many as the launcher started, "
                f"but got {devices}."
            )
        options["devices"] = started
        options["num_nodes"] = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            options["strategy"] = os.environ.get("LT_STRATEGY", "ddp")
    elif options["devices"] > 1:
        options["strategy"] = "ddp"
    return options
