"""What commands check before they work."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eqrestore_lightning.nn import Estimator


def check_at_least(least: int, **options: int | None) -> None:
    """Check options that were given."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"Expected `{name}` to be at least {least}, but got {value}.")


def check_is_for_images(estimator: "Estimator") -> None:
    """Check that weights find motions of images."""
    dims = estimator.num_spatial_dims
    if dims != 2:
        raise ValueError(
            f"Expected weights for images, with two spatial axes, but these are for {dims}; "
            f"RestoreTransform in Python restores such data."
        )


def check_output_file(output: Path, suffix: str) -> None:
    """Check that a file can be written, in a folder that may have yet to be made."""
    if output.suffix != suffix:
        raise ValueError(f"Expected `output` to end in {suffix}, but got {output}.")
    if output.is_dir():
        raise IsADirectoryError(f"Expected `output` to be a file, but {output} is a folder.")
    _check_writable(output.parent)


def check_output_folder(output: Path) -> None:
    """Check that files can be written into a folder, which may have yet to be made."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"Expected `output` to be a folder, but {output} is none.")
    _check_writable(output)


def _check_writable(folder: Path) -> None:
    """Write into the folder, or the nearest one above it that exists, and take that away again."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(
            f"Expected `output` to lie where files may be written, but {there} refuses them "
            f"({error.strerror})."
        ) from error
