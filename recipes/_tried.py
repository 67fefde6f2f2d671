"""Try files of a kind on their loader, in a process of its own, and count what happens."""

import contextlib
import io
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

_PATIENCE = 60.0  # seconds for one file; then it counts as crashed
_EXAMPLES = 3  # messages kept of what should not have happened

CANARY = "executed"
"""The file that payloads write, beside the folder of the files that are tried."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what loads them.

    Args:
        name: Of the row.
        make: Writes a file, or a folder of files, into a folder, and returns what is to be loaded.
        load: Loads it, and returns its content, or whatever tells it from others.
        right: The content of the file before it was damaged; `None` if there is none.
        share: How many are tried, relative to other kinds.
    """

    name: str
    make: Callable[[Random, Path], Path]
    load: Callable[[Path], object]
    right: object = None
    share: float = 1.0


@dataclass
class Tally:
    """What happened to the files of one kind."""

    refused: int = 0
    unharmed: int = 0
    accepted: int = 0
    unclear: int = 0
    crashed: int = 0
    executed: int = 0
    megabytes: float = 0.0
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, outcome: str, told: str) -> None:
        """Count one file."""
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome not in ("refused", "unharmed") and len(self.examples) < _EXAMPLES:
            self.examples.append(f"{outcome}: {told[:200]}")

    def row(self, name: str) -> dict[str, Any]:
        """Return the row of a table."""
        outcomes = [self.refused, self.unharmed, self.accepted, self.unclear, self.crashed]
        return {
            "kind": name,
            "tried": sum(outcomes),
            "refused clearly": self.refused,
            "as before the damage": self.unharmed,
            "accepted": self.accepted,
            "unclear": self.unclear,
            "crashed": self.crashed,
            "code executed": self.executed,
            "MB above start": round(self.megabytes),
            "slowest, s": self.slowest,
        }


def try_kind(kind: Kind, count: int, *, seed: int = 0) -> Tally:
    """Try files of a kind; one that ends or blocks the process counts as crashed.

    Args:
        kind: What to make and load.
        count: Number of files.
        seed: Determines the files.
    """
    tally = Tally()
    number = 0
    while number < count:
        for outcome, told, executed, megabytes, seconds in _in_process(kind, number, count, seed):
            tally.add(outcome, told)
            tally.executed += executed
            tally.megabytes = max(tally.megabytes, megabytes)
            tally.slowest = max(tally.slowest, seconds)
            number += 1
    return tally


_Result = tuple[str, str, int, float, float]


def _in_process(kind: Kind, start: int, count: int, seed: int) -> Iterator[_Result]:
    """Yield what happens to the files from `start` on, until all are tried or one crashes."""
    context = get_context("fork")  # `torch` need not be imported again
    receiving, sending = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(kind, start, count, seed, sending))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        worker.start()  # newer Pythons warn of threads, of which the child uses none
    sending.close()
    try:
        for number in range(start, count):
            try:
                result = receiving.recv() if receiving.poll(_PATIENCE) else None
            except EOFError:
                result = None
            if result is None:
                worker.kill()
                worker.join()
                yield "crashed", f"number {number}: exit code {worker.exitcode}", 0, 0.0, 0.0
                return
            yield result
    finally:
        worker.kill()
        worker.join()


def _work(kind: Kind, start: int, count: int, seed: int, sending: Connection) -> None:
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
        before = _peak()
        for number in range(start, count):
            folder = Path(root, "files")
            folder.mkdir()
            path = kind.make(Random(f"{seed} {kind.name} {number}"), folder)  # noqa: S311
            begun = perf_counter()
            outcome, told = attempt(kind.load, path, kind.right)
            seconds = perf_counter() - begun
            canary = Path(root, CANARY)
            executed = canary.exists()
            for left in Path(root).iterdir():
                (shutil.rmtree if left.is_dir() else Path.unlink)(left)
            sending.send((outcome, told, int(executed), _peak() - before, seconds))
        sending.close()


def attempt(load: Callable[[Path], object], path: Path, right: object = None) -> tuple[str, str]:
    """Load a file; return what happened, as `Tally` has it, and what was told."""
    try:
        content = load(path)
    except ValueError as error:
        return "refused" if is_clear(error, path) else "unclear", f"ValueError: {error}"
    except BaseException as error:
        return "unclear", f"{type(error).__name__}: {error}"
    return "unharmed" if right is not None and content == right else "accepted", str(content)


def is_clear(error: ValueError, path: Path) -> bool:
    """Return whether an error says what was expected, and names the file."""
    return str(error).startswith("Expected") and str(path) in str(error)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of rows; of memory and time, the largest."""
    largest = ("MB above start", "slowest, s")
    names = [name for name in rows[0] if name != "kind"]
    summed = {name: (max if name in largest else sum)(row[name] for row in rows) for name in names}
    return {"kind": "all", **summed}
