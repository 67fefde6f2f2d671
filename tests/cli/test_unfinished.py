"""What `eqrestore restore` keeps until it is finished."""

import csv
import multiprocessing
import os
import signal
import time

import pytest

from eqrestore_lightning.cli import _unfinished
from eqrestore_lightning.cli._unfinished import STATE, UnfinishedRun, digest_of_files

SETTINGS = {"weights digest": "a", "min_margin": 1.0}


@pytest.fixture
def begun(tmp_path):
    run = UnfinishedRun(tmp_path / "out", SETTINGS)
    run.begin([["bad.png", "because"]])
    yield run
    run.close()


def _table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_run_is_found_again_with_what_it_skipped(tmp_path, begun):
    begun.close()
    again = UnfinishedRun(tmp_path / "out", SETTINGS)
    assert again.is_found()
    assert again.skipped == [["bad.png", "because"]]
    assert not UnfinishedRun(tmp_path / "new", SETTINGS).is_found()


def test_other_settings_are_refused_by_name(tmp_path, begun):
    with pytest.raises(ValueError, match=r"was started with min_margin 1.0\. Give the same"):
        UnfinishedRun(tmp_path / "out", {**SETTINGS, "min_margin": 2.0}).is_found()
    with pytest.raises(ValueError, match="was started with other weights"):
        UnfinishedRun(tmp_path / "out", {**SETTINGS, "weights digest": "b"}).is_found()


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for output in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(FileExistsError, match="Expected `output` to be a new or empty folder"):
            UnfinishedRun(output, SETTINGS).is_found()


def test_a_run_killed_before_its_record_begins_anew(tmp_path):
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / "lock").touch()
    run = UnfinishedRun(tmp_path, SETTINGS)
    assert not run.is_found()
    run.begin([])
    assert run.done() == {}
    run.close()


def test_rows_of_all_processes_are_merged_in_order(tmp_path, begun):
    begun.record(0, 2, [["c", "3"]])
    begun.record(0, 0, [["a", "1"], ["ü,", "1"]])
    other = UnfinishedRun(tmp_path / "out", SETTINGS)
    other.record(1, 1, [["b", "2"]])
    assert set(begun.done()) == {0, 1, 2}
    begun.finish(["file", "down"], 3)
    rows = [["file", "down"], ["a", "1"], ["ü,", "1"], ["b", "2"], ["c", "3"]]
    assert _table(tmp_path / "out" / "shifts.csv") == rows
    assert _table(tmp_path / "out" / "skipped.csv") == [["file", "reason"], ["bad.png", "because"]]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["shifts.csv", "skipped.csv"]
    other.close()


@pytest.mark.parametrize("length", range(1, 30, 4))
def test_a_line_that_was_left_unfinished_is_not_done(begun, length):
    begun.record(0, 0, [["a"]])
    begun.close()
    path = begun._folder / "rows-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b": 0", b": 1")[:length])
    assert set(begun.done()) == {0}
    begun.record(0, 2, [["b"]])
    assert set(begun.done()) == {0, 2}


def test_a_run_that_only_has_to_be_tidied_up_keeps_its_table(tmp_path, begun):
    (tmp_path / "out" / "shifts.csv").write_text("whole")
    assert begun.is_complete
    begun.finish(["file"], 5)
    assert (tmp_path / "out" / "shifts.csv").read_text() == "whole"
    assert not (tmp_path / "out" / STATE).exists()


def _hold(output, ready):
    run = UnfinishedRun(output, SETTINGS)
    run.begin([])
    ready.set()
    time.sleep(60)


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(_unfinished, "_WAIT", 0.3)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    first = context.Process(target=_hold, args=(tmp_path, ready))
    first.start()
    assert ready.wait(20)
    second = UnfinishedRun(tmp_path, SETTINGS)
    with pytest.raises(FileExistsError, match=rf"at work in .*, but process {first.pid} on .* is"):
        second.begin([])
    second.close()
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.begin([])  # the system has released the lock
    second.close()


def test_the_digest_follows_names_sizes_and_times(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    before = digest_of_files(tmp_path, [path])
    assert digest_of_files(tmp_path, [path]) == before
    os.utime(path, ns=(0, 0))
    moved = digest_of_files(tmp_path, [path])
    other = path.rename(tmp_path / "b.png")
    assert len({before, moved, digest_of_files(tmp_path, [other])}) == 3
