"""A process of a training run that dies: the others end, and say why, instead of waiting."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIMIT = 60.0  # seconds
EPOCHS = ["--classifier_epochs=2000", "--restorer_epochs=1"]


def _rank(run, rank):
    """Return the process of a rank, of those that a launcher has started."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == run.pid and f"RANK={rank}" in (path / "environ").read_text().split("\0"):
                return int(path.name)
        except (OSError, ProcessLookupError):  # has ended meanwhile
            continue
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.parametrize(
    ("launcher", "num_nodes"), [("torchrun", 1), ("lightning", 1), ("torchrun", 2)]
)
def test_the_others_end_within_a_minute_and_say_why(
    launcher, num_nodes, start, tmp_path, record_property
):
    arguments = [f"--output={tmp_path}", *EPOCHS]
    runs = start("digits", *arguments, launcher=launcher, num_nodes=num_nodes)
    trained = tmp_path / "classifier" / "classifier.ckpt"
    end = time.monotonic() + 180
    while not trained.exists() and time.monotonic() < end:
        time.sleep(0.2)
    killed = _rank(runs[-1], 1)
    began = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    with ThreadPoolExecutor() as pool:  # or a full pipe would stop one of them
        printed = list(pool.map(lambda each: each.communicate(), runs))
    seconds = time.monotonic() - began
    record_property("seconds", seconds)
    print(f"ended after {seconds:.1f} s")
    assert all(run.returncode for run in runs)
    assert f"Signal 9 (SIGKILL) received by PID {killed}" in printed[-1][1]
    if num_nodes > 1:  # the other machine learns it from a connection that is closed
        assert re.search("Connection (closed|reset) by peer", printed[0][1])
    assert seconds < LIMIT
