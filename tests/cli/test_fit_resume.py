"""An interrupted `eqrestore fit` goes on, and ends as if nothing had happened."""

import resource
import signal
import threading

import pytest
import torch
from safetensors.torch import load_file

from eqrestore_lightning import RestorerModule, RestoreTransform, cli, load_estimator
from eqrestore_lightning.cli import _fit_training
from eqrestore_lightning.data._image_files import read_image
from eqrestore_lightning.files._writing import only_process

_OPTIONS = ["--grayscale", "--steps=3", "--sources=file", "--network=border"]


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(_fit_training, "_EVERY", 1)  # step


@pytest.fixture
def interrupt(monkeypatch, capsys):
    """Run `eqrestore fit`, press Ctrl-C in a hook, and return the line of the error."""

    def run(*arguments, hook="on_train_epoch_start", epoch=2):
        def stop(self):
            if self.current_epoch == epoch:
                raise KeyboardInterrupt

        handler = signal.getsignal(signal.SIGINT)
        with monkeypatch.context() as patch:
            patch.setattr(RestorerModule, hook, stop)
            with pytest.raises(SystemExit) as status:
                cli.eqrestore([str(argument) for argument in arguments])
        signal.signal(signal.SIGINT, handler)  # Lightning no longer listens to it
        assert status.value.code == 130
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("eqrestore: ")]
        return line

    return run


@pytest.mark.parametrize(("hook", "epoch"), [("on_train_epoch_start", 2), ("on_train_end", 3)])
def test_the_same_command_goes_on_and_ends_with_the_same_bits(
    hook, epoch, digits, tmp_path, run, interrupt
):
    whole, parts = tmp_path / "whole" / "mine.safetensors", tmp_path / "parts" / "mine.safetensors"
    printed = run("fit", digits, whole, *_OPTIONS)
    line = interrupt("fit", digits, parts, *_OPTIONS, hook=hook, epoch=epoch)
    checkpoint = parts.with_name("mine-unfinished.ckpt")
    assert line.endswith(
        f"interrupted; the same command goes on, from {checkpoint} if there is one"
    )
    assert list(parts.parent.iterdir()) == [checkpoint]
    RestoreTransform(checkpoint)(read_image(next(digits.rglob("*.png")), grayscale=True))
    (parts.parent / ".mine.abcdefgh.part.safetensors").write_text("half")  # as SIGKILL would
    resumed = run("fit", digits, parts, *_OPTIONS)
    assert f"Going on from {checkpoint}." in resumed
    assert resumed.splitlines()[-1] == printed.splitlines()[-1]
    names = [path.name for path in sorted(whole.parent.iterdir())]
    assert [path.name for path in sorted(parts.parent.iterdir())] == names
    picture = "mine-restored.png"
    assert (parts.parent / picture).read_bytes() == (whole.parent / picture).read_bytes()
    expected, found = load_file(whole), load_file(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_interrupted_run_of_another_kind_is_neither_continued_nor_lost(
    digits, tmp_path, fails, interrupt, run
):
    output = tmp_path / "mine.safetensors"
    interrupt("fit", digits, output, *_OPTIONS, "--max_shift=3")
    checkpoint = tmp_path / "mine-unfinished.ckpt"
    content = checkpoint.read_bytes()
    state = torch.load(checkpoint, weights_only=True)
    assert state["hyper_parameters"]["motion"] == {
        "kind": "Shift",
        "axes": [-2, -1],
        "max_shift": 3,
        "fill": "zeros",
    }
    message = fails("fit", digits, output, *_OPTIONS, "--max_shift=2")
    assert f"Expected {checkpoint}, which an interrupted run has left" in message
    assert "to be of a run with {'max_shift': 2}, but got {'max_shift': 3}; remove it" in message
    removed = next(digits.rglob("*.png"))
    image = removed.read_bytes()
    removed.unlink()
    assert "{'images': " in fails("fit", digits, output, *_OPTIONS, "--max_shift=3")
    removed.write_bytes(image)
    checkpoint.write_bytes(content[:2000])
    message = fails("fit", digits, output, *_OPTIONS, "--max_shift=3")
    assert f"Expected {checkpoint} to be the checkpoint of an interrupted run" in message
    assert not output.exists()
    checkpoint.unlink()
    run("fit", digits, output, *_OPTIONS, "--max_shift=2")
    assert load_estimator(output).motion.max_shift is None


def test_before_the_first_epoch_nothing_is_left(digits, tmp_path, interrupt):
    output = tmp_path / "mine" / "mine.safetensors"
    interrupt("fit", digits, output, *_OPTIONS, epoch=0)
    assert list(output.parent.iterdir()) == []


def test_two_runs_do_not_write_one_file(digits, tmp_path, fails, run):
    output = tmp_path / "mine.safetensors"
    taken, done = threading.Event(), threading.Event()

    def hold():  # locks of another thread are those of another process
        with only_process(output):
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    try:
        message = fails("fit", digits, output, *_OPTIONS)
        assert f"Expected no other process to write to {output}, but one does" in message
        run("fit", digits, tmp_path / "other.safetensors", *_OPTIONS)
    finally:
        done.set()
        thread.join()


def test_a_full_disk_is_told_and_leaves_no_half_file(digits, tmp_path, fails):
    output = tmp_path / "mine" / "mine.safetensors"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # bytes
    try:
        message = fails("fit", digits, output, *_OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in message
    assert list(output.parent.iterdir()) == []
