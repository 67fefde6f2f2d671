"""The wheel, installed where nothing can be seen but itself and the packages that it requires."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from eqrestore_lightning import __version__, bundled_weights, cli

ROOT = Path(__file__).parent.parent
PLAIN = """
import importlib, pkgutil
import eqrestore_lightning as package

for room in pkgutil.iter_modules(package.__path__):
    if room.name.startswith("_"):
        continue
    module = importlib.import_module(f"eqrestore_lightning.{room.name}")
    for name in module.__all__:
        getattr(module, name)
for name in package.__all__:
    getattr(package, name)
for name in package.bundled_weights():
    package.RestoreTransform(name)
print(package.__file__)
"""
USER = """
from pathlib import Path

import torch
from torch import Tensor, nn

from eqrestore_lightning import (
    RestorerModule,
    RestoreTransform,
    Shift,
    TranslationEstimator,
    bundled_weights,
    evaluate,
    save_estimator,
)
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.nn import Estimator, build_preset
from eqrestore_lightning.transforms import Found
from eqrestore_lightning.weights._card import model_card


def restored(images: Tensor, name: str = "digits") -> Tensor:
    restore = RestoreTransform(name, min_margin=1.0)
    found: Found = restore.find(images, candidates=2)
    shift: Tensor = found.motion["shift"]
    assert shift.dtype == torch.int64
    return restore.undo(images, found)


def trained(loader: list[Tensor]) -> Estimator:
    estimator = build_preset("seam", in_channels=3, spatial_size=(64, 64))
    module = RestorerModule(estimator, motion=Shift(max_shift=4), learning_rate=3e-3)
    save_estimator(module.estimator, Path("mine.safetensors"))
    return estimator


model = nn.Sequential(RestoreTransform(TranslationEstimator(1, (9, 9))), nn.Flatten())
names: list[str] = sorted(bundled_weights())
card: str = model_card(names[0])
shared: RestoreTransform = RestoreTransform.from_pretrained("me/mine", revision="v1")
address: str = shared.push_to_hub("me/mine", private=True)
batches = [(torch.zeros(1, 1, 9, 9), torch.zeros(1))]
table: str = evaluate(
    model, batches, restorers={"restored": shared}, motions=shift_motions([0, 4])
).table()
"""
MISTAKES = """
from eqrestore_lightning import RestoreTransform, bundled_weights
RestoreTransform("digits", min_margin="1")
bundled_weights("digits")
count: int = RestoreTransform("digits").push_to_hub("me/mine")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into an environment that links to what it requires, without extras."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (own,) = packages.glob("eqrestore_lightning-*.dist-info")
    for name in _required(Distribution.at(own)):
        required = distribution(name)
        for entry in {file.parts[0] for file in required.files or ()} - {"..", "__pycache__"}:
            link = packages / entry
            if not link.exists():
                link.symlink_to(required.locate_file(entry))
    return folder


def _required(package, extras=()):
    """Return the names of all packages that one requires, and those that these require."""
    found, todo = set(), [(package, frozenset(extras))]
    while todo:
        package, extras = todo.pop()
        for requirement in map(Requirement, package.requires or ()):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                continue
            each = requirement.name, frozenset(requirement.extras)
            if each not in found:
                found.add(each)
                todo.append((distribution(requirement.name), each[1]))
    return {name for name, _ in found}


def _run(folder, command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_types_and_weights(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    weights = [f"weights/{name}.safetensors" for name in bundled_weights()]
    for name in ("py.typed", "__init__.pyi", "weights/index.json", *weights):
        assert f"eqrestore_lightning/{name}" in names
    assert not any(name.startswith(("tests/", "recipes/")) for name in names)
    assert wheel.stat().st_size < 5_000_000


def test_it_works_without_the_extras(installed):
    (packages,) = installed.glob("lib/python*/site-packages")
    assert (packages / "torch").exists()
    assert not (packages / "matplotlib").exists()
    assert not (packages / "pytest").exists()
    done = _run(installed, [installed / "bin" / "python", "-I", "-c", PLAIN])
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_its_commands_start(installed):
    done = _run(installed, [installed / "bin" / "eqrestore", "--version"])
    assert done.stdout == f"eqrestore {__version__}\n", done.stderr
    done = _run(installed, [installed / "bin" / "eqrestore", "--help"])
    assert all(command in done.stdout for command in cli._COMMANDS)


@pytest.mark.slow
def test_mypy_knows_its_types(installed):
    def check(program):
        (installed / "program.py").write_text(program)
        options = ["--strict", "--cache-dir", "cache", "--python-executable", "bin/python"]
        return _run(installed, [sys.executable, "-m", "mypy", *options, "program.py"])

    done = check(USER)
    assert done.returncode == 0, done.stdout + done.stderr
    told = check(MISTAKES).stdout
    assert re.findall(r"program.py:(\d+): error: .*\[([\w-]+)\]", told) == [
        ("3", "arg-type"),
        ("4", "call-arg"),
        ("5", "assignment"),
    ]
    (typed,) = installed.glob("lib/python*/site-packages/eqrestore_lightning/py.typed")
    typed.rename(typed.with_suffix(".not"))  # without it nothing is checked
    told = check(USER).stdout
    typed.with_suffix(".not").rename(typed)
    assert "missing library stubs or py.typed marker" in told
