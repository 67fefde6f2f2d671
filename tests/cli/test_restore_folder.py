"""`eqrestore restore` in several processes, started as its users start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import DigitsDataModule, cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EQRESTORE = str(BIN / "eqrestore")
LIMIT = 60.0  # seconds in which a run whose process was killed has to end


def _environment(**variables):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LT_", "TORCHELASTIC_", "MASTER_"))
        and name not in ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}


def _start(*command, **variables):
    return subprocess.Popen(
        [str(part) for part in command],
        env=_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def _one(command):
    return [_start(*command, "--devices=2")]


def _torchrun(command):
    port = f"--master_port={_free_port()}"
    torchrun = [BIN / "torchrun", "--nproc_per_node=2", port, "--no-python"]
    return [_start(*torchrun, *command)]


def _two_nodes(command):
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    return [_start(*command, "--num_nodes=2", NODE_RANK=str(node), **shared) for node in (0, 1)]


def _two_nodes_of_torchrun(command):
    place = ["--nnodes=2", "--master_addr=127.0.0.1", f"--master_port={_free_port()}"]
    torchrun = [BIN / "torchrun", "--nproc_per_node=1", *place, "--no-python"]
    return [_start(*torchrun, f"--node_rank={node}", *command) for node in (0, 1)]


def _tree(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Write 1,500 shifted digits, two bad files, and what they are restored to by one process."""
    root = tmp_path_factory.mktemp("many")
    images = DigitsDataModule().dataset("test").images
    for number in range(1_500):
        path = root / "images" / str(number % 3) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        digit = images[number % len(images)].roll((number % 7, -number % 5), (1, 2))
        TF.to_pil_image(digit).save(path)
    (root / "images" / "broken.png").write_bytes(b"no image")
    Image.new("L", (9, 7)).save(root / "images" / "small.png")
    cli.eqrestore([str(part) for part in _command(root, "whole")[1:]])
    return root


def _command(root, name, batch_size=7):
    folders = [root / "images", root / name]
    options = ["--skip_bad=true", f"--batch_size={batch_size}", "--device=cpu"]
    return [EQRESTORE, "restore", "digits", *folders, *options]


@pytest.mark.parametrize("launch", [_one, _torchrun, _two_nodes, _two_nodes_of_torchrun])
def test_two_processes_write_what_one_writes(launch, many, tmp_path):
    runs = launch(_command(many, launch.__name__))
    printed = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), printed
    assert "".join(printed).count("Restored 1500 images into") == 1
    assert "Warning" not in "".join(printed)
    assert _tree(many / launch.__name__) == _tree(many / "whole")


def test_a_process_may_have_nothing_to_do(many, tmp_path):
    (tmp_path / "images").mkdir()
    source = many / "images" / "0" / "0000.png"
    (tmp_path / "images" / "0.png").write_bytes(source.read_bytes())
    (run,) = _one(_command(tmp_path, "out"))
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    whole = _tree(many / "whole")
    assert _tree(tmp_path / "out")["0.png"] == whole["0/0000.png"]


def test_bad_files_end_all_processes_with_one_line(many):
    command = [part for part in _command(many, "none") if "skip" not in str(part)]
    (run,) = _one(command)
    printed, _ = run.communicate()
    assert run.returncode == 2
    last = printed.strip().splitlines()[-1]
    assert last.startswith("eqrestore: 2 files cannot be restored. Expected")
    assert not (many / "none").exists()


def _wait_for_images(folder, count, run):
    while run.poll() is None and len(list(folder.rglob("*.png"))) < count:
        time.sleep(0.05)
    assert run.poll() is None, run.communicate()[0]


def _ranks(run):
    """Return the processes that restore, which `run` has started."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(run.pid)], capture_output=True, text=True
    ).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [int(pid) for pid, arguments in lines if "spawn_main" in arguments]


def test_a_killed_process_ends_the_run_which_goes_on_with_another_number(many, record_property):
    (run,) = _one(_command(many, "rank"))
    _wait_for_images(many / "rank", 100, run)
    start = time.monotonic()
    os.kill(_ranks(run)[1], signal.SIGKILL)
    printed, _ = run.communicate()
    seconds = time.monotonic() - start
    record_property("seconds", seconds)
    print(f"ended after {seconds:.1f} s")
    assert run.returncode == 2
    last = printed.strip().splitlines()[-1]
    message = "Expected all processes to finish, but process 1 terminated with signal SIGKILL."
    assert last == f"eqrestore: {message}"
    assert seconds < LIMIT
    subprocess.run(_command(many, "rank"), env=_environment(), check=True)
    assert _tree(many / "rank") == _tree(many / "whole")


def test_processes_end_with_the_one_that_started_them(many):
    (run,) = _one(_command(many, "parent"))
    _wait_for_images(many / "parent", 100, run)
    ranks = _ranks(run)
    assert len(ranks) == 2
    run.kill()
    run.communicate()  # which waits for all that could still write
    end = time.monotonic() + LIMIT
    while any(Path(f"/proc/{pid}").exists() for pid in ranks) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert len(_tree(many / "parent")) < 1_500
    subprocess.run([*_command(many, "parent"), "--devices=2"], env=_environment(), check=True)
    assert _tree(many / "parent") == _tree(many / "whole")


@pytest.mark.parametrize("devices", [1, 2])
def test_an_interruption_ends_with_130_and_a_second_run_is_refused(devices, many):
    name = f"interrupted-{devices}"
    command = [*_command(many, name, batch_size=3), f"--devices={devices}"]
    run = _start(*command)
    _wait_for_images(many / name, 20, run)
    os.killpg(run.pid, signal.SIGSTOP)  # or it would be finished before the second has started
    second = _start(*command)
    printed, _ = second.communicate()
    os.killpg(run.pid, signal.SIGCONT)
    assert second.returncode == 2
    assert f"Expected no other run to be at work in {many / name}, but process" in printed
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
    printed, _ = run.communicate()
    assert run.returncode == 130, printed
    assert "eqrestore: interrupted; the same command goes on\n" in printed
    end = time.monotonic() + LIMIT
    while _is_alive(run.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _is_alive(run.pid)
    subprocess.run(command, env=_environment(), check=True)
    assert not list((many / name).rglob("*.part*"))  # a process that was ended may have left one
    assert _tree(many / name) == _tree(many / "whole")


def _is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
