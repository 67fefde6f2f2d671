"""The command `lightning run FILE`, which newer versions of Lightning lack."""

import socket
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any


def lightning(args: Sequence[str] | None = None) -> None:
    """Run `lightning run FILE …` as `fabric run` does; pass other calls on to lightning-sdk."""
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] == ["run"] and _names_a_file(args[1:]):
        from lightning.fabric.cli import _main as fabric

        if not any(arg.startswith(("--num-nodes", "--num_nodes")) for arg in args):
            with socket.socket() as server:  # runs on one machine must not share a port
                server.bind(("127.0.0.1", 0))
                port = server.getsockname()[1]
            args.insert(1, f"--main-port={port}")  # a later one takes precedence
        fabric(args=args, prog_name="lightning")
        return
    other = lightning_sdk()
    if other is not None:
        sys.argv = ["lightning", *args]
        other()
        return
    wants_help = not args or args[0] in ("-h", "--help")
    print(
        "Usage: lightning run FILE [--devices N] [--accelerator A] … [ARGUMENTS OF FILE]\n"
        "Runs FILE as `fabric run` does. Other commands belong to lightning-sdk, "
        "which is not installed: pip install lightning-sdk",
        file=sys.stdout if wants_help else sys.stderr,
    )
    sys.exit(0 if wants_help else 2)


def lightning_sdk() -> Callable[[], Any] | None:
    """Return what lightning-sdk installs as `lightning`; `None` if it is not installed."""
    try:
        scripts = distribution("lightning-sdk").entry_points.select(
            group="console_scripts", name="lightning"
        )
    except PackageNotFoundError:
        return None
    found: Callable[[], Any] | None = next((script.load() for script in scripts), None)
    return found


def _names_a_file(args: Sequence[str]) -> bool:
    return any(arg.endswith(".py") or Path(arg).is_file() for arg in args)
