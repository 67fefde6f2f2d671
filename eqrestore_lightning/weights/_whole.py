"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: what is written to another name takes its place in the end.

    The other name lies in the same folder and depends on `path` alone: whoever writes the file
    again, after a process was killed, leaves nothing else behind. So only one process at a time may
    write a file.

    Args:
        path: Of the file; an older one is replaced.

    Yields:
        The name to write to.

    Raises:
        OSError: Whatever writing raises, with the path in its message.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder, "note.txt")) as part:
    ...         _ = part.write_text("all of it")
    ...     [found.name for found in Path(folder).iterdir()]
    ['note.txt']
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
