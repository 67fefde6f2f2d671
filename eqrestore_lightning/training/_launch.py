"""Options of trainers under any launcher."""

import os
from typing import Any


def trainer_options(
    *, device: str = "auto", devices: int | None = None, num_nodes: int | None = None
) -> dict[str, Any]:
    """Return the arguments of `lightning.Trainer` that fit how this script was started.

    Under `torchrun`, `fabric run` or `lightning run` every process must join the group that was
    launched; a plain `Trainer()` would instead train once in each of them. Under plain `python` the
    script trains on one device.

    Args:
        device: `"cpu"`, `"cuda"`, `"mps"`, or `"auto"` for what the launcher says, or
            Lightning chooses.
        devices: Processes on each machine, each with a device of its own; by default as many as the
            launcher started, or 1.
        num_nodes: Machines; by default as many as the launcher started, or 1.

    Returns:
        `accelerator`, `devices`, `num_nodes`, and where they matter `strategy` and `precision`.

    Raises:
        ValueError: If a launcher set a variable to something that is not a number, or started other
            numbers than `devices` and `num_nodes`; or if one of these is below 1.

    Source: The variables are torchrun's and, with `LT_` in front, Fabric's.

    >>> trainer_options(device="cpu", devices=2)["devices"]
    2
    """
    options: dict[str, Any] = {
        "accelerator": os.environ.get("LT_ACCELERATOR", "auto") if device == "auto" else device,
        "devices": 1 if devices is None else devices,
        "num_nodes": 1 if num_nodes is None else num_nodes,
    }
    for name in ("devices", "num_nodes"):
        if options[name] < 1:
            raise ValueError(f"Expected `{name}` to be at least 1, but got {options[name]}.")
    if "LT_PRECISION" in os.environ:
        options["precision"] = os.environ["LT_PRECISION"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        options["devices"] = _started("devices", "LOCAL_WORLD_SIZE", devices)
        options["num_nodes"] = _started("num_nodes", "GROUP_WORLD_SIZE", num_nodes)
        if _number("WORLD_SIZE") > 1:
            options["strategy"] = os.environ.get("LT_STRATEGY", "ddp")
    elif options["devices"] * options["num_nodes"] > 1:
        options["strategy"] = "ddp"
    return options


def _started(name: str, variable: str, wanted: int | None) -> int:
    started = _number(variable)
    if wanted not in (None, started):
        raise ValueError(
            f"Expected `{name}` to be {started}, as many as the launcher started, but got {wanted}."
        )
    return started


def _number(name: str) -> int:
    value = os.environ.get(name, "1")
    if not value.isdecimal():
        raise ValueError(f"Expected the variable {name} to be a whole number, but got {value!r}.")
    return int(value)
