"""The command `eqrestore`, one file for each of its commands."""

import sys
from collections.abc import Sequence
from importlib import import_module

from eqrestore_lightning import __version__

__all__ = ["COMMANDS", "eqrestore"]

COMMANDS = (
    "fit",
    "restore",
    "evaluate",
    "inspect",
    "audit",
    "export",
    "upright",
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
    """Run one of `COMMANDS`; user errors end with one line and exit status 2, Ctrl-C with 130.

    Args:
        args: What follows `eqrestore` on the command line.
    """
    from jsonargparse import auto_cli

    commands = {name: import_module(f"{__name__}._{name}").run for name in COMMANDS}
    given = list(sys.argv[1:] if args is None else args)
    if given == ["weights"]:  # jsonargparse has no positional arguments that may be left out
        given.append("all")
    try:
        auto_cli(
            commands,
            args=given,
            prog="eqrestore",
            description="Undo shifts and rotations of images, in front of any classifier.",
            version=__version__,
        )
    except _USER_ERRORS as error:
        message = " ".join(line.strip() for line in str(error).splitlines())
        print(f"eqrestore: {message or type(error).__name__}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt as error:
        told = f"interrupted; {error}" if str(error) else "interrupted"
        print(f"eqrestore: {told}", file=sys.stderr)  # noqa: T201
        sys.exit(130)
