import importlib
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import eqrestore_lightning

ROOMS = [
    "classifiers",
    "data",
    "functional",
    "metrics",
    "nn",
    "testing",
    "training",
    "transforms",
    "weights",
]


def test_public_names_are_sorted_and_there():
    assert eqrestore_lightning.__all__ == sorted(eqrestore_lightning.__all__)
    for name in eqrestore_lightning.__all__:
        assert getattr(eqrestore_lightning, name).__doc__
    assert set(eqrestore_lightning.__all__) <= set(dir(eqrestore_lightning))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = eqrestore_lightning.Nothing


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_say_what_they_export(room):
    module = importlib.import_module(f"eqrestore_lightning.{room}")
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


def test_version_is_the_installed_one():
    assert version("eqrestore-lightning") == eqrestore_lightning.__version__


def test_the_wheel_holds_types_and_weights(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "weights/index.json", "weights/digits.safetensors"):
        assert f"eqrestore_lightning/{name}" in names
    assert not any(name.startswith(("tests/", "recipes/")) for name in names)


def test_restoring_imports_neither_lightning_nor_torchmetrics_nor_wandb():
    code = (
        "import sys, eqrestore_lightning as e; e.RestoreTransform('digits');"
        "print(sorted({'lightning', 'torchmetrics', 'wandb', 'kornia'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
