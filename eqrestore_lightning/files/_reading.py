"""Read files with one clear error."""

from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 500  # characters of an error's text


@contextmanager
def reading(expected: str) -> Iterator[None]:
    """Raise one `ValueError` for whatever a bad file leads its reader to.

    Errors about the machine pass: no such file, no permission, no memory, time-outs.

    >>> with reading("x.npy to be an array"):
    ...     raise EOFError("No data left")
    Traceback (most recent call last):
    ValueError: Expected x.npy to be an array, but got: No data left
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, MemoryError, TimeoutError, Warning):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):  # how torch says it
            raise MemoryError(str(error)) from error
        told = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            told = f"no {told}"
        raise ValueError(f"Expected {expected}, but got: {told[:_LONGEST]}") from error
