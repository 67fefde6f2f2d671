"""Options of trainers under any launcher."""

import os
from typing import Any


def trainer_options() -> dict[str, Any]:
    """Return the arguments of `lightning.Trainer` that fit how this script was started.

    Under `torchrun`, `fabric run` or `lightning run` every process must join the group that was
    launched; a plain `Trainer()` would instead train once in each of them. Under plain `python` the
    script trains on one device.

    Returns:
        `accelerator`, `devices`, `num_nodes`, and where they matter `strategy` and `precision`.

    Raises:
        ValueError: If a launcher set a variable to something that is not a number.

    Source: The variables are torchrun's and, with `LT_` in front, Fabric's.

    >>> trainer_options()["num_nodes"]
    1
    """
    options: dict[str, Any] = {
        "accelerator": os.environ.get("LT_ACCELERATOR", "auto"),
        "devices": 1,
        "num_nodes": 1,
    }
    if "LT_PRECISION" in os.environ:
        options["precision"] = os.environ["LT_PRECISION"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        options["devices"] = _number("LOCAL_WORLD_SIZE")
        options["num_nodes"] = _number("GROUP_WORLD_SIZE")
        if _number("WORLD_SIZE") > 1:
            options["strategy"] = os.environ.get("LT_STRATEGY", "ddp")
    return options


def _number(name: str) -> int:
    value = os.environ.get(name, "1")
    if not value.isdecimal():
        raise ValueError(f"Expected the variable {name} to be a whole number, but got {value!r}.")
    return int(value)
