"""One clear error for whatever a bad file leads its reader to."""

import pytest
import torch

from eqrestore_lightning.files._reading import reading


@pytest.mark.parametrize("error", [MemoryError, TimeoutError, PermissionError, KeyboardInterrupt])
def test_errors_of_the_machine_pass(error):
    with pytest.raises(error), reading("a file"):
        raise error


def test_torch_runs_out_of_memory_too():
    with pytest.raises(MemoryError, match="can't allocate memory"), reading("a file"):
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("one\n\ttwo"), "one two"),
        (RuntimeError("x" * 1_000), "x" * 500),
        (EOFError(), "EOFError"),
        (KeyError("estimator"), "no 'estimator'"),
    ],
)
def test_other_errors_become_one_of_a_line(error, told):
    with pytest.raises(ValueError, match=f"^Expected a file, but got: {told}$"), reading("a file"):
        raise error
