"""What Lightning and other libraries say and raise, as the user of a command needs it."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

_NOISE = (
    ".*LeafSpec",
    ".*does not have many workers",
    "Consider setting `persistent_workers=True`",
    "Checkpoint directory",
    "Couldn't infer the batch indices",
    "Total length of `DataLoader`",  # is zero, where all is done
)  # Lightning's warnings


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out adverts, deprecations within libraries and bars that nobody sees; note the rest."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("WANDB_SILENT", "true")
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.filterwarnings("ignore", category=category)
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        warnings.showwarning = _note  # type: ignore[assignment]  # takes the rest as it comes
        yield


def _note(message: Warning | str, *where: Any) -> None:
    del where
    print(f"Note: {message}", file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def under_lightning(interrupted: str) -> Iterator[None]:
    """Leave out what Lightning says of itself; raise its errors, and Ctrl-C, as commands do."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    for name in ("lightning.pytorch", "lightning.fabric"):  # which set their level when imported
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt(interrupted) from error
