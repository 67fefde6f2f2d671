"""What every room of these tests needs: counts, damage, payloads, and what "refused" means."""

import functools
import io
import json
import os
import pathlib
import runpy
import shutil
import subprocess
from pathlib import Path

import lightning as L
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.strategies import integers, sampled_from

NOTHING = object()
NETWORK = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}


def few_or(many, *, few=15):
    """Run a test on `few` examples by default, and on `many` with `-m slow`."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def examples(count):
    """Return hypothesis' settings for a number of examples."""
    unchecked = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=unchecked
    )


@st.composite
def damaged(draw, whole):
    """Flip bits, overwrite, drop, double or swap ranges of a file's bytes, or cut it."""
    length = draw(integers(1, min(64, len(whole) // 2)))
    start = draw(integers(0, len(whole) - length))
    end = start + length
    before, part, after = whole[:start], whole[start:end], whole[end:]
    way = draw(sampled_from(["flip", "overwrite", "drop", "double", "swap", "cut"]))
    if way == "flip":
        content = bytearray(whole)
        for bit in draw(st.lists(integers(0, 8 * len(whole) - 1), min_size=1, max_size=10)):
            content[bit // 8] ^= 1 << bit % 8
        return bytes(content)
    if way == "swap":
        other = draw(integers(0, len(whole) - length))
        content = bytearray(whole)
        content[start:end], content[other : other + length] = whole[other : other + length], part
        return bytes(content)
    overwritten = draw(st.binary(min_size=length, max_size=length))
    middle = {"overwrite": overwritten, "drop": b"", "double": part + part, "cut": b""}[way]
    return before + middle + (b"" if way == "cut" else after)


def try_all(count, strategy, check):
    """Call `check` with examples of a strategy."""
    examples(count)(given(strategy)(check))()


def is_refused(load, path, right=NOTHING):
    """Return whether a file is refused by a `ValueError` that says what was expected and names it.

    Args:
        load: Loads the file, and returns what tells its content.
        path: The file.
        right: The content that it may have instead; by default nothing is accepted.
    """
    try:
        content = load(path)
    except ValueError as error:
        assert str(error).startswith("Expected"), error  # noqa: PT017
        assert str(path) in str(error)  # noqa: PT017
        return True
    assert content == right
    return False


def assert_refused(count, contents, load, path):
    """Assert that files are refused whatever is in them, and that no code in them is run."""

    def check(content):
        path.write_bytes(content)
        assert is_refused(load, path)
        assert not path.with_name("executed").exists()

    try_all(count, contents, check)


def held(module, config):
    """Return all that a module holds, to compare it with another one."""
    tensors = {name: value.numpy().tobytes() for name, value in module.state_dict().items()}
    return json.dumps(config, sort_keys=True, default=str), tensors


def save_checkpoint(module, path):
    """Write a checkpoint of a module, without training it."""
    trainer = L.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def payloads(folder):
    """Return objects that make a file `executed` in `folder` when they are unpickled."""
    script = folder / "script.py"
    canary = str(folder / "executed")
    script.write_text(code := f"open({canary!r}, 'w')")
    return [
        Call(os.system, f"touch {canary}"),
        Call(eval, code),
        Call(exec, code),
        Call(open, canary, "w"),
        Call(subprocess.call, ["touch", canary]),
        Call(pathlib.Path.touch, Path(canary)),
        Call(runpy.run_path, str(script)),
        Call(shutil.copy, str(script), canary),
        Call(torch.save, {}, canary),
        Call(functools.partial(eval, code)),
        Call(os.mkdir, canary),
        Call(io.FileIO, canary, "w"),
    ]
