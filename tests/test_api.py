import ast
import importlib
import inspect
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import eqrestore_lightning

PACKAGE = Path(eqrestore_lightning.__file__).parent
ROOMS = [
    "classifiers",
    "cli",
    "data",
    "evaluation",
    "functional",
    "metrics",
    "motions",
    "nn",
    "testing",
    "theory",
    "training",
    "transforms",
    "weights",
]


def _names_of_the_stub():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: node.module for node in imports for alias in node.names}


def test_public_names_are_those_of_the_stub():
    assert sorted(eqrestore_lightning.__all__) == sorted(_names_of_the_stub())
    assert set(eqrestore_lightning.__all__) <= set(dir(eqrestore_lightning))
    with pytest.raises(AttributeError, match=r"attribute '?Nothing"):
        _ = eqrestore_lightning.Nothing


@pytest.mark.parametrize("name", sorted(_names_of_the_stub()))
def test_a_public_name_is_documented_and_the_same_as_in_its_room(name):
    value = getattr(eqrestore_lightning, name)
    room = importlib.import_module(f"eqrestore_lightning.{_names_of_the_stub()[name]}")
    assert value is getattr(room, name)
    assert name in room.__all__
    assert value.__doc__.split("\n")[0].endswith(".")


def test_the_root_holds_what_users_type_and_no_more():
    assert {"RestoreTransform", "TranslationEstimator", "Shift", "evaluate"} <= set(
        eqrestore_lightning.__all__
    )
    assert len(eqrestore_lightning.__all__) <= 30


def test_all_rooms_are_listed():
    assert sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_name_what_they_export(room):
    module = importlib.import_module(f"eqrestore_lightning.{room}")
    assert module.__doc__
    constants_first = sorted(module.__all__, key=lambda name: (not name.isupper(), name))
    assert module.__all__ == constants_first
    for name in module.__all__:
        value = getattr(module, name)
        documented = inspect.isclass(value) or inspect.isroutine(value)
        assert value.__doc__ or not documented, name


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
        "import eqrestore_lightning.theory, eqrestore_lightning.testing;"
        "print(sorted({'lightning', 'torchmetrics', 'wandb', 'kornia'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
