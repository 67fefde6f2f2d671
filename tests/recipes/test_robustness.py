"""Bad files and bad commands: a short version of the recipe, and whether it notices."""

import json
import os
import pickle
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:.*litlogger", "ignore:.*exists and is not empty"
)
SLOW = ("inflate", "empty values", "header: no", "bombs in", "millions")  # much is written first


@pytest.fixture
def tried(load):
    return load("_tried")


def _file(content=b"x"):
    def make(random, folder):
        (folder / "file").write_bytes(content)
        return folder / "file"

    return make


def test_what_happens_is_counted(tried):
    def load(path):
        number = int(path.read_bytes())
        if number == 1:
            raise ValueError(f"Expected {path} to be better.")
        if number == 2:
            raise ValueError("not good")
        if number == 3:
            raise KeyError(3)
        if number == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 5:
            (path.parent.parent / tried.CANARY).mkdir()
        return number

    def make(random, folder):
        make.calls += 1
        (folder / "file").write_text(str(make.calls))
        return folder / "file"

    make.calls = -1
    tally = tried.try_kind(tried.Kind("all sorts", make, load, right=0), 4)
    assert (tally.refused, tally.unharmed, tally.unclear) == (1, 1, 2)
    make.calls = 4
    tally = tried.try_kind(tried.Kind("code", make, load), 1)
    assert (tally.accepted, tally.executed, tally.crashed) == (1, 1, 0)
    make.calls = 3
    tally = tried.try_kind(tried.Kind("a crash", make, load), 2)  # each in a process of its own
    assert (tally.crashed, sum(row for row in (tally.accepted, tally.refused))) == (2, 0)
    assert "exit code -11" in tally.examples[0]


def test_memory_is_that_of_the_kind(tried):
    def take(path):
        raise ValueError(f"Expected {path} to be small: {len(bytearray(300 * 2**20))}.")

    assert tried.try_kind(tried.Kind("large", _file(), take), 1).megabytes > 250
    assert tried.try_kind(tried.Kind("small", _file(), lambda path: 1), 1).megabytes < 50


def test_payloads_do_harm_if_they_are_unpickled(load, tried):
    payloads = load("_hostile_weights").payloads

    def make(random, folder):
        codes = payloads(folder.parent / tried.CANARY)
        (folder / "file").write_bytes(pickle.dumps(random.choice(codes)))
        return folder / "file"

    kind = tried.Kind("pickles", make, lambda path: pickle.loads(path.read_bytes()))
    assert tried.try_kind(kind, 30).executed == 30


@pytest.mark.parametrize("room", ["_hostile_weights", "_hostile_images", "_hostile_data"])
def test_hostile_files_are_refused(room, load, tried):
    module = load(room)
    kinds = [
        kind
        for name in ("weights_kinds", "image_kinds", "data_kinds")
        for kind in getattr(module, name, list)()
    ]
    assert len(kinds) > 8
    for kind in kinds:
        _assert_refused(tried.try_kind(kind, 1 if any(x in kind.name for x in SLOW) else 4), kind)


def test_hostile_checkpoints_are_refused(load, tried, tmp_path, monkeypatch):
    module = load("_hostile_checkpoints")
    monkeypatch.setattr(module, "BOMB", 20)
    kinds = module.checkpoint_kinds(tmp_path)
    assert len(kinds) > 15
    for kind in kinds:
        _assert_refused(tried.try_kind(kind, 1 if any(x in kind.name for x in SLOW) else 4), kind)


def test_damaged_files_are_refused_or_hold_what_they_held(load, tried, tmp_path):
    for kind in load("_damaged").protected(tmp_path):
        tally = tried.try_kind(kind, max(3, int(30 * kind.share)))
        assert (tally.accepted, tally.unclear, tally.crashed) == (0, 0, 0), (kind, tally)
        assert tally.refused > 0


def test_damage_to_other_files_ends_clearly_or_in_what_decodes(load, tried, tmp_path):
    for kind in load("_damaged").unprotected(tmp_path):
        tally = tried.try_kind(kind, 10)
        assert (tally.unclear, tally.crashed) == (0, 0), (kind, tally)


def _assert_refused(tally, kind):
    others = (tally.accepted, tally.unclear, tally.crashed, tally.executed)
    assert others == (0, 0, 0, 0), (kind.name, tally.examples)
    assert tally.refused > 0
    assert tally.megabytes < 500


def test_commands_end_with_one_line(load, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    robustness, commands = load("robustness"), load("_bad_commands")
    rows = robustness.try_commands(commands.prepare(tmp_path / "files"), every=9)
    assert {row["kind"] for row in rows} > {"eqrestore fit", "eqrestore restore"}
    for row in rows:
        assert row["refused clearly"] == row["tried"] > 0, capsys.readouterr().out
    assert not list(Path(tmp_path, "files").glob("out*"))


@pytest.mark.slow
def test_robustness_prints_its_tables(load, tmp_path, capsys):
    numbers = {"num_damaged": 8, "num_archives": 1, "num_unprotected": 5, "num_hostile": 2}
    load("robustness").main(output=tmp_path, **numbers)
    assert capsys.readouterr().out.count("| all |") == 4
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for part in ("damaged", "hostile"):
        assert results[part][-1]["accepted"] == results[part][-1]["unclear"] == 0
    assert results["hostile"][-1]["code executed"] == 0
    assert results["commands"][-1]["refused clearly"] == results["commands"][-1]["tried"] >= 200
