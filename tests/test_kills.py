"""Commands that are killed at random moments, and begun again, end as if nothing had happened."""

import contextlib
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import DigitsDataModule, cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(DigitsDataModule().dataset("test").images[:120]):
        TF.to_pil_image(image).save(folder / f"{number:03}.png")
    return folder


def _fit(images, output):
    options = ["--grayscale", "--steps=12", "--sources=file", "--network=border"]
    return ["fit", images, output / "mine.safetensors", *options]


def _restore(images, output):
    return ["restore", "digits", images, output, "--batch_size=4"]


def _digits(images, output):
    options = ["--classifier_epochs=3", "--restorer_epochs=8", f"--output={output}"]
    return [sys.executable, ROOT / "recipes" / "digits.py", *options]


@pytest.mark.parametrize(("command", "most"), [(_fit, 30), (_restore, 30), (_digits, 10)])
def test_every_kill_is_survived_bit_for_bit(command, most, images, tmp_path, capsys):
    run = _run_process if command is _digits else _run_fork
    chance = random.Random(0)
    start = time.perf_counter()
    assert run(command(images, tmp_path / "whole"))
    seconds = time.perf_counter() - start
    expected = _content(tmp_path / "whole")
    kills, runs = 0, 0
    while kills < most:
        output = tmp_path / f"run{runs}"
        for limit in [chance.uniform(0.0, seconds) for _ in range(min(3, most - kills))]:
            ended = run(command(images, output), limit)
            kills += not ended
            _content(output)  # every file can be read
            if ended:
                break
        else:
            assert run(command(images, output))
        assert _content(output) == expected
        runs += 1
    with capsys.disabled():
        print(f"\n{command.__name__[1:]}: {kills} kills, {runs} runs ended as the unbroken one")


def _run_fork(arguments, limit=None):
    """Run `eqrestore`; return whether it ended rather than be killed after `limit` seconds."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_eqrestore, args=([str(word) for word in arguments],))
    process.start()
    process.join(limit)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def _eqrestore(arguments):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        cli.eqrestore(arguments)


def _run_process(command, limit=None):
    """Run a command; return whether it ended rather than be killed after `limit` seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    assert process.returncode == 0, printed[-3000:]
    return True


def _content(folder):
    """Return what every finished file below a folder holds, without times and paths."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name.startswith(".") or name.startswith("wandb"):
            continue
        if path.suffix == ".safetensors":
            found[name] = {key: _bytes(value) for key, value in load_file(path).items()}
        elif path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            found[name] = {key: _bytes(value) for key, value in state.items()}
        elif path.suffix in (".png", ".gif"):
            with PIL.Image.open(path) as picture:
                picture.load()
            found[name] = path.read_bytes()
        elif path.suffix == ".json":
            found[name] = _lasting(json.loads(path.read_text("utf-8")))
        else:
            found[name] = path.read_bytes()
    return found


def _bytes(value):
    return value.numpy().tobytes()


def _lasting(content):
    """Leave out what differs between any two runs."""
    if not isinstance(content, dict):
        return content
    changing = ("seconds", "training_seconds", "command", "origin")
    return {key: _lasting(value) for key, value in content.items() if key not in changing}
