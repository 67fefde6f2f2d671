"""What Lightning and its processes raise, as errors of the user."""

import contextlib
import multiprocessing
import re
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def as_user_errors(interrupted: Callable[[], str]) -> Iterator[None]:
    """Raise what a run under Lightning raises as errors that end with one line.

    Args:
        interrupted: Return what to say of a run that was interrupted.

    Raises:
        KeyboardInterrupt: If it was interrupted, where Lightning would end with status 1.
        ValueError: If a `Trainer` cannot be built.
        RuntimeError: If a process of the run failed, or was killed.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except ProcessRaisedException as error:
        line = error.msg.strip().splitlines()[-1]
        raise RuntimeError(re.sub(r"^[\w.]+: ", "", line)) from error
    except ProcessExitedException as error:
        raise RuntimeError(f"Expected all processes to finish, but {error}.") from error
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        for process in multiprocessing.active_children():
            process.terminate()
        raise KeyboardInterrupt(interrupted()) from error
