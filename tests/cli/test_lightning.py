"""The command `lightning`, and the entry points of both commands."""

import contextlib
import socket
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from eqrestore_lightning.cli import _lightning as command

_BIN = Path(sys.executable).parent
_RUN = "from eqrestore_lightning.cli._lightning import lightning; lightning()"


def _lightning(*arguments, cwd):
    line = [sys.executable, "-c", _RUN, *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True)


def test_entry_points_exist():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    scripts = project["project"]["scripts"]
    assert set(scripts) == {"eqrestore", "lightning"}
    for target in scripts.values():
        module, name = target.split(":")
        assert callable(getattr(import_module(module), name))


def test_a_file_runs_with_its_arguments(tmp_path):
    (tmp_path / "script.py").write_text(
        "import os, sys; print(os.environ['LT_PRECISION'], os.environ['RANK'], sys.argv[1:])"
    )
    done = _lightning("run", "script.py", "--precision", "bf16-mixed", "--x", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bf16-mixed 0 ['--x', '1']" in done.stdout


def test_several_runs_on_one_machine_do_not_interfere(tmp_path):
    (tmp_path / "script.py").write_text("print('ran')")
    with socket.socket() as server:
        with contextlib.suppress(OSError):  # already in use: just as good
            server.bind(("", 29400))
            server.listen()
        done = _lightning("run", "script.py", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        done = _lightning("run", "--main-port=29400", "script.py", cwd=tmp_path)
        assert "EADDRINUSE" in done.stderr


def test_other_calls_are_passed_on_to_lightning_sdk(tmp_path):
    done = _lightning("--version", cwd=tmp_path)
    reference = subprocess.run(
        [str(_BIN / "lightning-sdk"), "--version"], capture_output=True, text=True
    )
    assert done.returncode == reference.returncode == 0
    assert done.stdout.split()[-1] == reference.stdout.split()[-1]


def test_without_lightning_sdk_it_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(command, "lightning_sdk", lambda: None)
    with pytest.raises(SystemExit) as status:
        command.lightning(["studio", "list"])
    assert status.value.code == 2
    assert "pip install lightning-sdk" in capsys.readouterr().err
    with pytest.raises(SystemExit) as status:
        command.lightning(["--help"])
    assert status.value.code == 0
    assert "Usage: lightning run FILE" in capsys.readouterr().out
