import ast
import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import eqrestore_lightning
from eqrestore_lightning.cli import _COMMANDS

PACKAGE = Path(eqrestore_lightning.__file__).parent
INVENTORY = Path(__file__).with_name("public_names.txt")
ROOMS = [
    "classifiers",
    "cli",
    "data",
    "evaluation",
    "files",
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


def _public_names():
    """List every name that users may rely on, and every command."""
    names = [f"eqrestore {command}" for command in _COMMANDS]
    for room in ("", *(f".{room}" for room in ROOMS)):
        module = importlib.import_module(f"eqrestore_lightning{room}")
        names += [f"{module.__name__}.{name}" for name in module.__all__]
    return "".join(f"{name}\n" for name in sorted(names))


def test_no_public_name_is_gone_and_new_ones_are_listed():
    listed, found = (set(text.splitlines()) for text in (INVENTORY.read_text(), _public_names()))
    assert listed - found == set(), "gone: users' programs would break"
    assert found - listed == set(), "new: python tests/test_api.py lists them"


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


def test_restoring_imports_neither_lightning_nor_torchmetrics_nor_wandb():
    code = (
        "import sys, eqrestore_lightning as e; e.RestoreTransform('digits');"
        "import eqrestore_lightning.theory, eqrestore_lightning.testing;"
        "heavy = {'lightning', 'torchmetrics', 'wandb', 'kornia', 'huggingface_hub'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    INVENTORY.write_text(_public_names())
