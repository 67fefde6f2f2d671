"""The command `eqrestore` as a whole."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.version import Version

from eqrestore_lightning import __version__, cli

_HEAVY = "lightning", "torch", "torchvision", "wandb", "eqrestore_lightning.nn"
_HELP = """
import sys
from eqrestore_lightning import cli
try:
    cli.eqrestore(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
print(",".join(sys.modules))
"""


def _help(capsys, *arguments):
    with pytest.raises(SystemExit) as status:
        cli.eqrestore([*arguments, "--help"])
    assert status.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", [[], *([name] for name in cli._COMMANDS)])
def test_help_imports_nothing_heavy(command):
    done = subprocess.run(
        [sys.executable, "-c", _HELP, *command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()[-1].split(",")
    assert not set(_HEAVY) & set(modules)


def test_help_names_every_command(capsys):
    text = _help(capsys)
    assert all(name in text for name in cli._COMMANDS)


@pytest.mark.parametrize("command", cli._COMMANDS)
def test_help_describes_every_argument(command, capsys):
    text = _help(capsys, command)
    assert "(type: " not in text.replace(". (type: ", "").replace("instance. (type", "")
    assert re.search(r"\. \((required, )?type: ", text)


def test_version(capsys):
    with pytest.raises(SystemExit) as status:
        cli.eqrestore(["--version"])
    assert status.value.code == 0
    assert capsys.readouterr().out == f"eqrestore {__version__}\n"


_COMPLETE = """
source "$1"
COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2))
_shtab_eqrestore
echo "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(
    Version(version("jsonargparse")) < Version("4.53"), reason="it had another option for it"
)
def test_completion_of_commands_and_options(tmp_path, monkeypatch, capsys):
    pytest.importorskip("shtab")
    monkeypatch.setenv("JSONARGPARSE_ADD_PRINT_COMPLETION_ARGUMENT", "true")
    with pytest.raises(SystemExit):
        cli.eqrestore(["--print_completion", "shtab-bash"])
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    for words, completed in (("we", "weights"), ("fit --netw", "--network"), ("x", "")):
        command = ["bash", "-c", _COMPLETE, "bash", script, "eqrestore", *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{completed}\n"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (PermissionError(13, "Permission denied", "x.png"), 2, "Permission denied: 'x.png'"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (MemoryError(), 2, "MemoryError"),
        (RuntimeError("out,\n  of\nmemory."), 2, "out, of memory.\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_of_the_machine_end_with_one_line(error, status, message, monkeypatch, capsys):
    def fail(folder: str) -> None:
        """Fail.

        Args:
            folder: Anything.
        """
        raise error

    monkeypatch.setattr("eqrestore_lightning.cli._inspect.run", fail)
    with pytest.raises(SystemExit) as ended:
        cli.eqrestore(["inspect", "here"])
    assert ended.value.code == status
    told = capsys.readouterr().err
    assert told.startswith("eqrestore: ")
    assert message in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["restore", "a", "b", "c", "--batch-size=x"], "`--batch-size` to be a whole number"),
        (["restore", "a", "b", "c", "--prior=[1]"], "`--prior` to be a number, but got '[1]'; see"),
        (["inspect", "a", "--grayscale=x"], "`--grayscale` to be true or false, but got 'x'; see"),
        (["restore", "a"], "required"),
        (["restore", "a", "b", "c", "d"], "nrecognized arguments: d; see eqrestore restore --help"),
        (["fits"], "invalid choice: 'fits'"),
        ([], "but it was not provided; see eqrestore --help"),
        (["--config=no.yaml", "fit"], "File does not exist"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_read_end_with_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as status:
        cli.eqrestore(words)
    assert status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eqrestore: ")
    assert message in line


def test_names_cannot_control_the_terminal(fails, tmp_path):
    message = fails("inspect", tmp_path / "a\x1b[2J\nb")
    assert "a\\x1b[2J b" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("typed", "named"), [("--image-size", "--image-size"), ("--image_size", "--image_size")]
)
def test_errors_name_options_as_they_were_typed(typed, named, fails, tmp_path):
    assert f"Expected `{named}` to be at least 1, but got 0." in fails(
        "inspect", tmp_path, f"{typed}=0", "--grayscale"
    )
    assert "Expected `weights` to be one of" in fails("export", "none", tmp_path / "x.onnx")


@pytest.mark.parametrize("words", [["--grayscale"], ["--grayscale", "yes"], ["--grayscale=true"]])
def test_flags_may_stand_bare(words, monkeypatch):
    got = []

    def run(images: str, grayscale: bool = False) -> None:
        """Note."""
        got.append((images, grayscale))

    monkeypatch.setattr("eqrestore_lightning.cli._inspect.run", run)
    cli.eqrestore(["inspect", *words, "here"])
    assert got == [("here", True)]
