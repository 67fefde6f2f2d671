"""What `eqrestore restore` keeps in its output folder until it is finished, to go on from."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from eqrestore_lightning.files import remove_parts, whole_file

if sys.platform != "win32":
    import fcntl

STATE = ".eqrestore-restore"
"""The hidden folder; it goes when the run is finished."""

TABLE, SKIPPED = "shifts.csv", "skipped.csv"
_WAIT = 10.0  # seconds in which the processes of a killed run end


class UnfinishedRun:
    """The record of a run that restores a folder: what it was asked for, and the rows it has found.

    A hidden folder holds the record, `run.json`; `lock`, which every process of the run holds and
    the system releases when a process ends, however it ends; and for each process a file of rows,
    one line of JSON for each batch whose images are written. Work is counted in batches because a
    network may compute other last bits for other batches: those that are not in the rows are done
    again, as a whole.

    Args:
        output: The folder that the run writes to.
        settings: All that determines what is written, in plain JSON types.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.output = output
        self.settings = dict(settings)
        self.skipped: list[list[str]] = []
        self._folder = output / STATE
        self._lock: IO[str] | None = None
        self._rows: IO[bytes] | None = None

    def is_found(self) -> bool:
        """Return whether the output folder holds this very run, unfinished.

        Raises:
            FileExistsError: If the folder holds anything else.
            ValueError: If it holds a run with other settings.
        """
        record = self._folder / "run.json"
        if record.is_file():
            found = json.loads(record.read_text("utf-8"))
            _check_same(self.settings, found["settings"], self.output)
            self.skipped = found["skipped"]
            return True
        check_output(self.output)
        return False

    def begin(self, skipped: Sequence[Sequence[str]]) -> None:
        """Begin a run or go on with one, in the first process.

        Args:
            skipped: Names of files to leave out, and why; of a run that goes on, it has a record.

        Raises:
            FileExistsError: If another run is at work in the folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._acquire(alone=True)
        found = self.is_found()
        remove_parts(self.output)  # of files that a killed process was writing
        if not found:
            self.skipped = [list(row) for row in skipped]
            with whole_file(self._folder / "run.json") as part:
                content = {"settings": self.settings, "skipped": self.skipped}
                part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self._acquire(alone=False)

    def join(self) -> None:
        """Take part in a run that the first process has begun."""
        self._acquire(alone=False)
        self.is_found()

    def close(self) -> None:
        """Let go of the folder."""
        for file in (self._rows, self._lock):
            if file is not None:
                with contextlib.suppress(OSError):  # the disk is full, which was said before
                    file.close()
        self._rows = self._lock = None

    @property
    def is_complete(self) -> bool:
        """Whether everything is written, and only the record is left to be removed."""
        return (self.output / TABLE).is_file()

    def done(self) -> dict[int, tuple[Path, int]]:
        """Return the batches whose images are written, and where their rows lie."""
        return {
            number: (path, offset)
            for path in sorted(self._folder.glob("rows-*.jsonl"))
            for number, offset in _batches(path)
        }

    def record(self, rank: int, number: int, rows: Sequence[Sequence[str]]) -> None:
        """Keep the rows of a batch whose images are written.

        Args:
            rank: Number of this process, which has a file of its own.
            number: Of the batch.
            rows: Of the table, without its header.
        """
        path = self._folder / f"rows-{rank}.jsonl"
        try:
            if self._rows is None:
                self._rows = path.open("ab")
            # the line break in front ends a line that a killed process left unfinished
            self._rows.write(b"\n" + json.dumps({"batch": number, "rows": rows}).encode() + b"\n")
            self._rows.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def finish(self, header: Sequence[str], num_batches: int) -> None:
        """Write the tables, in the order of the batches, and remove the record.

        Args:
            header: Names of the columns.
            num_batches: How many batches there are.
        """
        if not self.is_complete:
            if self.skipped:
                _write_table(self.output / SKIPPED, ["file", "reason"], self.skipped)
            _write_table(self.output / TABLE, header, self._merged(num_batches))
        for path in self._folder.glob("rows-*.jsonl"):
            path.unlink()
        (self._folder / "run.json").unlink()
        shutil.rmtree(self._folder)

    def _merged(self, num_batches: int) -> Iterator[list[str]]:
        places = self.done()
        for number in range(num_batches):
            path, offset = places[number]
            with path.open("rb") as file:
                file.seek(offset)
                yield from json.loads(file.readline())["rows"]

    def _acquire(self, *, alone: bool) -> None:
        """Lock the folder, alone or together with other processes of the run."""
        if self._lock is None:
            self._lock = (self._folder / "lock").open("a+", encoding="utf-8")
        if sys.platform == "win32":
            return
        kind = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
        end = time.monotonic() + _WAIT
        while True:
            try:
                fcntl.lockf(self._lock, kind)
                break
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() > end:
                    raise self._busy() from error
                time.sleep(0.1)
        if not os.fstat(self._lock.fileno()).st_nlink:
            raise self._busy()  # which has just finished
        if alone:
            self._lock.truncate(0)
            self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._lock.flush()

    def _busy(self) -> FileExistsError:
        assert self._lock is not None  # noqa: S101  # opened above
        self._lock.seek(0)
        who = self._lock.read() or "another process"
        return FileExistsError(
            f"Expected no other run to be at work in {self.output}, but {who} is."
        )


def check_output(output: Path) -> None:
    """Check that a folder is new or empty, or holds a run that is unfinished.

    Raises:
        FileExistsError: If it holds anything else.
    """
    state = output / STATE
    if not output.exists() or (state / "run.json").is_file():
        return
    if not output.is_dir() or any(path != state for path in output.iterdir()):
        raise FileExistsError(
            f"Expected `output` to be a new or empty folder, or one that the same command left "
            f"unfinished, but got {output}."
        )


def digest_of_files(root: Path, files: Iterable[Path]) -> str:
    """Return a digest of the names of files, their sizes, and when they were last changed.

    Args:
        root: The folder to which names are relative.
        files: In their order.
    """
    sha = hashlib.sha256()
    for path in files:
        found = path.stat()
        name = os.fsencode(path.relative_to(root).as_posix())
        sha.update(b"%s\0%d\0%d\0" % (name, found.st_size, found.st_mtime_ns))
    return sha.hexdigest()


def _batches(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the batches that a file of rows holds, and where their lines begin."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError):  # empty, or left unfinished by a killed process
                yield json.loads(line)["batch"], offset
            offset += len(line)


def _check_same(wanted: Mapping[str, Any], found: Mapping[str, Any], output: Path) -> None:
    differ = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if not differ:
        return
    values = ", ".join(
        f"other {name}" if "digest" in name else f"{name} {found.get(name)}" for name in differ
    )
    raise ValueError(
        f"Expected the arguments of the run that {output} holds unfinished, but it was started "
        f"with {values.replace(' digest', '')}. Give the same command to go on, or another "
        f"`output`."
    )


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table, whole or not at all; names of files are written as they are on disk."""
    with (
        whole_file(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
