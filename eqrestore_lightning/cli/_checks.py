"""What commands check before they work."""

import tempfile
from pathlib import Path


def check_at_least(least: int, **options: int | None) -> None:
    """Check options that were given.

    Raises:
        ValueError: If one is below `least`.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"Expected `{name}` to be at least {least}, but got {value}.")


def check_output_file(output: Path, suffix: str, name: str = "output") -> None:
    """Check that a file can be written, in a folder that may have yet to be made.

    Args:
        output: The file.
        suffix: What its name must end in.
        name: The option that named it.

    Raises:
        OSError: If the folder cannot be written to.
        ValueError: If `output` ends in something else, or is a folder.
    """
    if output.suffix != suffix:
        raise ValueError(f"Expected `{name}` to end in {suffix}, but got {output}.")
    if output.is_dir():
        raise IsADirectoryError(f"Expected `{name}` to be a file, but {output} is a folder.")
    _check_writable(output.parent, name)


def check_output_folder(output: Path, name: str = "output") -> None:
    """Check that files can be written into a folder, which may have yet to be made.

    Args:
        output: The folder.
        name: The option that named it.

    Raises:
        OSError: If it is no folder, or cannot be written to.
    """
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"Expected `{name}` to be a folder, but {output} is none.")
    _check_writable(output, name)


def _check_writable(folder: Path, name: str) -> None:
    """Write into the folder, or the nearest one above it that exists, and take that away again."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(
            f"Expected `{name}` to lie where files may be written, but {there} refuses them "
            f"({error.strerror})."
        ) from error
