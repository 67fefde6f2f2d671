"""Files are written whole or not at all, and by one process at a time."""

import errno
import os
import subprocess
import sys

import pytest

from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file

_HOLD = """
import sys, time
from pathlib import Path
from eqrestore_lightning.files._writing import only_process, whole_file
with only_process(Path(sys.argv[1])), whole_file(Path(sys.argv[2])) as part:
    part.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), whole_file(path) as part:
        part.write_text("n\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.suffix == ".csv"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), whole_file(tmp_path / "nowhere" / "a"):
        pass


@pytest.mark.parametrize("folder", [True, False])
def test_another_process_is_refused_until_it_is_killed(folder, tmp_path):
    path = tmp_path / "file.csv"
    held = tmp_path if folder else path
    command = [sys.executable, "-c", _HOLD, str(held), str(path)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "begun\n"
        with pytest.raises(FileExistsError, match="Expected no other process"), only_process(held):
            pass
        with only_process(tmp_path / "another.csv"):
            assert len([part for part in tmp_path.iterdir() if ".part" in part.name]) == 1
    finally:
        other.kill()
        other.communicate()
    with only_process(held), only_process(held):  # again, in the same process
        remove_parts(held)
        assert not path.exists()
        with whole_file(path) as part:
            part.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


def test_only_parts_of_the_file_itself_are_removed(tmp_path):
    kept = [".mine-2.abcdefgh.part.png", ".mine.abcdefgh.part.jpg", "mine.abcdefgh.part.png"]
    for name in [*kept, ".mine.abcdefgh.part.png"]:
        (tmp_path / name).write_text("")
    remove_parts(tmp_path / "mine.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_what_the_system_refuses_names_the_file(tmp_path):
    message = r"No space left on device: '.*/table\.csv'"
    with pytest.raises(OSError, match=message), whole_file(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as `write` raises it
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 236 + ".png", "x" * 251 + ".png", "é" * 120 + ".png"])
def test_names_may_be_as_long_as_the_file_system_has_them(name, tmp_path):
    with whole_file(tmp_path / name) as part, only_process(tmp_path / name):
        part.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    part.write_text("left by a process that was killed")
    remove_parts(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
