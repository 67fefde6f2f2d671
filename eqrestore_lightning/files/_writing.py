"""Write files whole or not at all, and in one process at a time."""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` once all is written.

    A process that is killed, or a full disk, never leaves a file that is cut in the middle. What is
    yielded has the same folder and suffix; its name begins with a dot.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder, "table.md")) as part:
    ...         _ = part.write_text("| a |")
    ...     [file.name for file in Path(folder).iterdir()]
    ['table.md']
    """
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{_short(path.stem)}.", suffix=f".part{path.suffix}", delete=False
    ) as file:
        part = Path(file.name)
    try:
        part.chmod(0o644)  # temporary files are private
        yield part
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error  # say which file
        raise


@contextmanager
def only_process(path: Path) -> Iterator[None]:
    """Keep other processes that ask from writing to `path`, a file or a folder, meanwhile.

    The place is held by a hidden file beside it, or in it, which the system frees even if this
    process is killed.
    """
    from filelock import FileLock, Timeout

    name = path / ".lock" if path.is_dir() else path.with_name(f".{_short(path.name)}.lock")
    lock = FileLock(name, blocking=False, is_singleton=True)  # may be taken again in this process
    try:
        lock.acquire()
    except Timeout:
        raise FileExistsError(
            f"Expected no other process to write to {path}, but one does; wait until it has ended, "
            f"or choose another output."
        ) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            name.unlink(missing_ok=True)
        lock.release()


def remove_parts(*paths: Path) -> None:
    """Remove what killed processes left that wrote these files, or any below these folders."""
    for path in paths:
        if path.is_dir():
            parts = path.rglob(".*.????????.part*")
        else:
            parts = path.parent.glob(
                f".{glob.escape(_short(path.stem))}.????????.part{path.suffix}"
            )
        for part in list(parts):
            part.unlink()


def _short(name: str) -> str:
    """Return a name that leaves room for more within the 255 bytes of a file system."""
    return os.fsdecode(os.fsencode(name)[:200])
