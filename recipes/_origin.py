"""What determines a stage, what is running, and on what: kept with results and weights."""

import datetime
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

import eqrestore_lightning
from eqrestore_lightning.data._module import DataModule

_NO_MATTER = ("root", "download", "num_workers")  # settings that leave the images as they are


def stage_settings(
    module: L.LightningModule,
    data: Any,
    epochs: int | None,
    minutes: float | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what determines the result of a stage, in plain JSON types."""
    images = {key: value for key, value in data.settings.items() if key not in _NO_MATTER}
    if isinstance(data, DataModule):
        images["fingerprint"] = data.fingerprint()
    length = {"epochs": epochs, "minutes": minutes}
    settings = {
        "module": {"kind": type(module).__name__, **dict(module.hparams)},
        "data": images,
        **{key: value for key, value in length.items() if value is not None},
        "precision": options.get("precision") or "32-true",
    }
    return dict(json.loads(json.dumps(settings)))


def origin() -> dict[str, Any]:
    """Return what is running: command, options of the launcher, hardware and versions."""
    recipe = f"recipes/{Path(sys.argv[0]).name}"
    launcher = {k: v for k, v in os.environ.items() if k.startswith("LT_") or k == "WORLD_SIZE"}
    return {
        "recipe": recipe,
        "command": shlex.join([recipe, *sys.argv[1:]]),
        "launcher": dict(sorted(launcher.items())),
        "hardware": hardware(),
        "versions": {
            "eqrestore-lightning": eqrestore_lightning.__version__,
            "torch": torch.__version__,
            "lightning": L.__version__,
        },
    }


def hardware() -> str:
    """Return the name of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    names = re.findall(r"model name\s*: (.*)", _cpuinfo()) or [platform.machine()]
    return f"{os.cpu_count()} cores of {names[0]}, no GPU"


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def written_by() -> str:
    """Say what wrote a page: command, hardware, versions and date."""
    about = origin()
    options = [f"{name}={value}" for name, value in about["launcher"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return (
        f"Written by `{' '.join([*options, 'python', about['command']])}`: {about['hardware']}; "
        f"{versions}; {today}."
    )
