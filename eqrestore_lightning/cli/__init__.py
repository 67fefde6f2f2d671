"""The command `eqrestore`, one file for each of its commands."""

import inspect
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from itertools import zip_longest
from typing import NoReturn

from eqrestore_lightning import __version__
from eqrestore_lightning.cli._quiet import quiet

__all__ = ["eqrestore"]

_COMMANDS = (
    "fit",
    "restore",
    "evaluate",
    "inspect",
    "export",
    "demo",
    "weights",
)
"""The function `run` in the file of each name; the help is its docstring's first line and `Args`.

These files import late, so that `eqrestore --help` is fast. For the same reason the functions are
not called `fit`, `evaluate` …: jsonargparse looks for their names at the root of the package, which
would load whatever has that name there.
"""

_USER_ERRORS = (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


def eqrestore(args: Sequence[str] | None = None) -> None:
    """Run a command; user errors end with one line and exit status 2, Ctrl-C with 130.

    Args:
        args: What follows `eqrestore` on the command line.
    """
    from jsonargparse import auto_cli

    typed = list(sys.argv[1:] if args is None else args)
    commands = {name: import_module(f"{__name__}._{name}").run for name in _COMMANDS}
    command = commands.get(typed[0]) if typed else None
    words = _spelled_out(typed, command)
    if words == ["weights"]:  # jsonargparse has no positional arguments that may be left out
        words.append("all")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may be no text
            stream.reconfigure(errors="backslashreplace")
    try:
        with quiet():
            auto_cli(
                commands,
                args=words,
                prog="eqrestore",
                description="Undo shifts and rotations of images, in front of any classifier.",
                version=__version__,
                exit_on_error=False,
            )
    except ArgumentError as error:
        named = [word for word in words[:1] if word in _COMMANDS]
        told = _as_typed(_told(str(error)), typed, command)
        _fail(f"{told.rstrip('.')}; see {' '.join(['eqrestore', *named])} --help")
    except _USER_ERRORS as error:
        _fail(_as_typed(str(error) or type(error).__name__, typed, command))
    except KeyboardInterrupt as error:
        told = f"interrupted; {error}" if str(error) else "interrupted"
        print(f"eqrestore: {told}", file=sys.stderr)  # noqa: T201
        sys.exit(130)


def _spelled_out(words: Sequence[str], command: Callable[..., None] | None) -> list[str]:
    """Return options with `_` for `-`, and `true` for those of yes or no that stand bare."""
    parameters = inspect.signature(command).parameters if command else {}
    spelled = []
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        option = name[2:].replace("-", "_") if name.startswith("--") else ""
        if option in parameters:
            word = f"--{option}{equals}{value}"
            if parameters[option].annotation is bool and not equals:
                word += "" if following.lower() in _YES_OR_NO else "=true"
        spelled.append(word)
    return spelled


def _as_typed(message: str, words: Sequence[str], command: Callable[..., None] | None) -> str:
    """Name arguments in a message as the user typed them: `--image-size` for `image_size`."""
    parameters = inspect.signature(command).parameters if command else {}
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    typed = {option[2:].replace("-", "_"): option for option in options}

    def named(match: re.Match[str]) -> str:
        names = [match[1], *_ALSO_CALLED.get(match[1], ())]
        name = next((name for name in names if name in parameters), None)
        if name is None:
            return match[0]
        is_option = parameters[name].default is not inspect.Parameter.empty
        return f"`{typed.get(name, f'--{name}') if is_option else name}`"

    return re.sub(r"`(?:--)?(\w+)`", named, message)


def _fail(message: str) -> NoReturn:
    line = " ".join(part.strip() for part in message.splitlines())
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)  # no control sequences
    print(f"eqrestore: {shown}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _told(message: str) -> str:
    """Return what jsonargparse says about one argument in one sentence."""
    argument = re.match(r'Parser key "([\w.]+)":\s', message)
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    if argument is None or value is None:
        return message
    types = re.findall(r"Expected an? <class '(\w+)'>", message)
    words = re.findall(r"Literal\[(.*?)\]", message)
    expected = " or ".join(dict.fromkeys(_TYPES[t] for t in types if t in _TYPES) or words)
    return f"Expected `--{argument[1]}` to be {expected or 'another value'}, but got {value[1]!r}"


_ALSO_CALLED = {
    "source": ("weights", "start", "name"),
    "root": ("images", "data"),
    "path": ("output",),
}
"""Arguments of the functions that commands call, and what the commands call them."""

_YES_OR_NO = ("true", "false", "yes", "no")
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list"}
