"""`eqrestore restore` in several processes, started as its users start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import DigitsDataModule, cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def _start(*command):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LT_", "TORCHELASTIC_", "MASTER_"))
        and name not in ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE")
    }
    return subprocess.Popen(
        [str(part) for part in command],
        env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _ended(command):
    run = _start(*command)
    run.communicate()
    return run.returncode


def _one(command):
    return [_start(*command, "--devices=2")]


def _two_nodes_of_torchrun(command):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    place = ["--nnodes=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    torchrun = [BIN / "torchrun", "--nproc_per_node=1", *place, "--no-python"]
    return [_start(*torchrun, f"--node_rank={node}", *command) for node in (0, 1)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Write 600 shifted digits, a bad file, and what they are restored to by one process."""
    root = tmp_path_factory.mktemp("many")
    images = DigitsDataModule().dataset("test").images
    for number in range(600):
        path = root / "images" / str(number % 3) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        digit = images[number % len(images)].roll((number % 7, -number % 5), (1, 2))
        TF.to_pil_image(digit).save(path)
    (root / "images" / "broken.png").write_bytes(b"no image")
    cli.eqrestore([str(part) for part in _command(root, "whole")[1:]])
    return root


def _command(root, name):
    folders = [root / "images", root / name]
    options = ["--skip_bad", "--batch_size=7", "--device=cpu"]
    return [BIN / "eqrestore", "restore", "digits", *folders, *options]


@pytest.mark.parametrize("launch", [_one, _two_nodes_of_torchrun])
def test_two_processes_write_what_one_writes(launch, many, tree):
    runs = launch(_command(many, launch.__name__))
    printed = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), printed
    assert "".join(printed).count("Restored 600 images into") == 1
    assert "Warning" not in "".join(printed)
    assert tree(many / launch.__name__) == tree(many / "whole")


def test_a_process_may_have_nothing_to_do(many, tmp_path, tree):
    (tmp_path / "images").mkdir()
    source = many / "images" / "0" / "0000.png"
    (tmp_path / "images" / "0.png").write_bytes(source.read_bytes())
    (run,) = _one(_command(tmp_path, "out"))
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    assert tree(tmp_path / "out")["0.png"] == tree(many / "whole")["0/0000.png"]


def _wait_for_images(folder, count, run):
    while run.poll() is None and len(list(folder.rglob("*.png"))) < count:
        time.sleep(0.02)
    assert run.poll() is None, run.communicate()[0]


def test_killed_processes_go_on_with_another_number_of_them(many, tree):
    (run,) = _one(_command(many, "killed"))
    _wait_for_images(many / "killed", 60, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert len(tree(many / "killed")) < 600
    assert _ended(_command(many, "killed")) == 0
    assert tree(many / "killed") == tree(many / "whole")


def test_an_interruption_ends_with_130_and_a_second_run_is_refused(many, tree):
    command = _command(many, "interrupted")
    run = _start(*command)
    _wait_for_images(many / "interrupted", 20, run)
    os.killpg(run.pid, signal.SIGSTOP)  # or it would be finished before the second has started
    second = _start(*command)
    printed, _ = second.communicate()
    os.killpg(run.pid, signal.SIGCONT)
    assert second.returncode == 2
    assert f"Expected no other process to write to {many / 'interrupted'}" in printed
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
    printed, _ = run.communicate()
    assert run.returncode == 130, printed
    assert printed.endswith("eqrestore: interrupted; the same command goes on\n")
    assert _ended(command) == 0
    assert tree(many / "interrupted") == tree(many / "whole")
