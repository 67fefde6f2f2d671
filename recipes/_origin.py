"""Where results come from: command, machine and versions."""

import os
import platform
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch

import eqrestore_lightning


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
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    names = re.findall(r"model name\s*: (.*)", text) or [platform.machine()]
    return f"{os.cpu_count()} cores of {names[0]}, no GPU"
