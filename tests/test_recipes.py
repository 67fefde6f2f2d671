"""Recipes run as their users start them, and log what a dashboard needs."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
from wandb_offline import read_history, read_records

from eqrestore_lightning import (
    MNISTDataModule,
    RestoreTransform,
    circular_shift,
    load_estimator,
    random_shift,
    scores_to_shift,
)

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "python": [sys.executable],
    "torchrun": [str(BIN / "torchrun"), "--nproc_per_node", "2"],
    "fabric": [str(BIN / "fabric"), "run", "--devices", "2"],
    "lightning": [str(BIN / "lightning"), "run", "--devices", "2"],
}


def _run(launcher, recipe, *arguments):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB_", "LT_", "TORCHELASTIC_"))
    }
    command = [*LAUNCHERS[launcher], f"recipes/{recipe}.py", *arguments]
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Run recipes/digits.py once with one process and once with two."""
    outputs = {}
    for launcher in ("python", "lightning"):
        folder = tmp_path_factory.mktemp(launcher)
        arguments = ["--output", str(folder), "--classifier_epochs=3", "--restorer_epochs=4"]
        outputs[launcher] = folder, _run(launcher, "digits", *arguments)
    return outputs


def test_digits_prints_its_table_once_and_says_that_wandb_is_offline(digits):
    for folder, printed in digits.values():
        assert printed.count("| accuracy, restored |") == 2  # circular and zero-fill
        assert printed.count("Logging to W&B offline") == 1
        tables = (folder / "tables.md").read_text(encoding="utf-8").split("## ")
        circular = next(table for table in tables if table.startswith("shifts\n"))
        assert circular.partition("\n\n")[2].strip() in printed
        rows = {line.split(" | ")[0]: line for line in circular.splitlines()}
        restored = re.findall(r"\d+\.\d\d", rows["| accuracy, restored"])
        assert len(restored) == 9
        assert len(set(restored)) == 1  # the same for every size of shift


def test_digits_reaches_the_same_with_one_process_and_two(digits):
    one, two = (load_estimator(folder / "digits.safetensors") for folder, _ in digits.values())
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-2, atol=1e-3)


def test_digits_writes_one_wandb_run_with_everything(digits):
    for folder, _ in digits.values():
        (run,) = (folder / "wandb").glob("offline-run-*")
        (file,) = run.glob("run-*.wandb")
        history = read_history(file)
        assert len(history["classifier-train/loss"]) == 3
        assert len(history["restorer-train/loss"]) == 4
        assert len(history["restorer-val/shift_accuracy"]) == 4
        for title in ("shifts", "zero-fill shifts"):
            assert history[f"{title}/max_shift"] == [str(size) for size in range(9)]
            for name in ("no restorer", "restored"):
                assert len(history[f"{title}/accuracy, {name}"]) == 9
            assert any(key.startswith(f"charts/{title}") for key in history)
        rows = {
            path.name.split("_")[0]: len(json.loads(path.read_text(encoding="utf-8"))["data"])
            for path in run.glob("files/media/table/tables/*.json")
        }
        assert rows == {"shifts": 18, "zero-fill shifts": 18, "gate": 5}
        pictures = {path.name.split("_")[0] for path in run.glob("files/media/images/*.png")}
        assert pictures == {"restored", "accuracy", "restorer-restored"}
        (animation,) = run.glob("files/media/videos/*.gif")
        with PIL.Image.open(animation) as picture:
            assert picture.n_frames == 40
        (begun,) = (record.run for record in read_records(file) if record.HasField("run"))
        assert begun.run_group == "digits"
        assert sorted(begun.tags) == ["digits", "translation"]
        config = {item.key: json.loads(item.value_json) for item in begun.config.update}
        assert config["classifier_epochs"] == 3
        assert config["network"]["separable"] is True


@pytest.mark.slow
def test_digits_goes_on_where_it_stopped_and_trains_nothing_twice(digits, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(digits["python"][0], folder)
    (folder / "restorer" / "restorer.ckpt").unlink()
    arguments = ["--output", str(folder), "--classifier_epochs=3", "--restorer_epochs=4"]
    printed = _run("python", "digits", *arguments)
    assert f"Reusing {folder / 'classifier' / 'classifier.ckpt'}." in printed
    first, second = (
        json.loads((path / "results.json").read_text(encoding="utf-8"))
        for path in (digits["python"][0], folder)
    )
    assert first["shifts"] == second["shifts"]
    weights = load_estimator(folder / "digits.safetensors").state_dict()
    for name, value in (
        load_estimator(digits["python"][0] / "digits.safetensors").state_dict().items()
    ):
        assert torch.equal(weights[name], value)
    with pytest.raises(AssertionError, match="to hold nothing or this very stage"):
        _run("python", "digits", "--output", str(folder), "--classifier_epochs=2")


def test_digits_leaves_files_that_restore(digits):
    folder, _ = digits["python"]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    metrics = results["weights digits"]["metrics"]
    circular = [row for row in results["shifts"] if row["restorer"] == "restored"]
    assert metrics["accuracy_restored"] == circular[0]["accuracy"]
    assert {row["consistency"] for row in circular} == {1.0}
    assert metrics["exact"] == circular[0]["exact"]
    image = torch.zeros(1, 32, 32)
    for source in (folder / "digits.safetensors", folder / "restorer" / "restorer.ckpt"):
        RestoreTransform(source)(image)


def test_the_example_of_the_readme_runs(digits, capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    example = next(block for block in blocks if "outputs/digits" in block)
    assert len(example.splitlines()) <= 8
    exec(example.replace("outputs/digits", str(digits["python"][0])), {})
    (accuracy,) = map(float, re.findall(r"tensor\((.*?)\)", capsys.readouterr().out))
    assert accuracy > 0.5  # the fixture trains for seconds only


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "fabric"])
def test_digits_runs_under_every_launcher(launcher, tmp_path):
    arguments = ["--output", str(tmp_path), "--classifier_epochs=1", "--restorer_epochs=1"]
    printed = _run(launcher, "digits", *arguments)
    assert printed.count("| accuracy, restored |") == 2
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1


@pytest.fixture
def rules(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    return runpy.run_path(str(ROOT / "recipes" / "_rules.py"))


def test_the_rule_restores_all_of_mnist(mnist_root, rules):
    images = MNISTDataModule(mnist_root).dataset("test").images
    rule = rules["centre_of_mass_rule"]()
    estimate = RestoreTransform(rule).estimate
    exact = torch.cat([estimate(part) for part in images.split(1000)])
    assert (exact != 0).any(1).sum() <= 1  # one centre lies on the edge of the window, to 16 bits
    with torch.no_grad():
        scores = torch.cat([rule.double()(part.double()) for part in images.split(1000)])
    assert scores_to_shift(scores).count_nonzero() == 0
    phase = rules["first_harmonic_phase"](images.float())
    assert 0.52 < (phase == 0).all(1).double().mean() < 0.54


def test_a_blank_border_is_found_on_any_number_of_axes(rules):
    for size in ((12,), (12, 15), (9, 10, 11)):
        images = torch.zeros(6, 3, *size, dtype=torch.uint8)
        inner = images[(slice(None), slice(None), *[slice(2, -2)] * len(size))]
        inner.copy_(torch.randint(1, 256, inner.shape))
        estimate = RestoreTransform(rules["blank_border_rule"](3, size, 2)).estimate
        shift = random_shift(6, 4, num_spatial_dims=len(size))
        assert torch.equal(estimate(circular_shift(images, shift)), shift)
        filled = torch.randint(1, 256, images.shape, dtype=torch.uint8)  # no border: no answer
        assert (estimate(filled) != 0).any()


def test_the_largest_seam_is_that_of_the_wrap_around(rules):
    ramp = torch.arange(14.0)[:, None] * 2 + torch.arange(11.0) * 3
    images = (ramp + torch.rand(5, 2, 14, 11)) * 4
    shift = random_shift(5, 5)
    assert torch.equal(rules["largest_seam"](circular_shift(images, shift)), shift)


def test_the_first_harmonic_follows_the_mass(rules):
    images = torch.zeros(4, 1, 10, 11, 12)
    images[:, :, 5, 5, 6] = 1.0
    shift = random_shift(4, 4, num_spatial_dims=3)
    assert torch.equal(rules["first_harmonic_phase"](circular_shift(images, shift)), shift)


@pytest.mark.slow
def test_photographs_without_border_are_restored(mnist_root, tmp_path):
    arguments = ["--data", str(mnist_root), "--output", str(tmp_path), "--epochs=1"]
    printed = _run("python", "no_rule", *arguments, "--num_images=500", "--classifier_epochs=1")
    for task in ("cifar10-unpadded", "cifar10-crops", "mnist-noise", "mnist-clutter"):
        table = printed.partition(f"{task}, shifts found on test images\n\n")[2]
        rows = table.partition("\n\n")[0].splitlines()[2:]
        exact = {row.split(" | ")[0][2:]: float(row.split(" | ")[1]) for row in rows}
        learned = next(share for name, share in exact.items() if name.startswith("learned"))
        assert learned == max(exact.values())
    assert "cifar10-crops, crops that move" in printed


@pytest.mark.slow
def test_every_shift_of_mnist_is_restored_to_the_same_image(mnist_root):
    arguments = ["--data", str(mnist_root), "--images=100", "--other_images=1"]
    printed = _run("python", "invariance", *arguments)
    assert "| RestoreTransform (exact) | 100 | 102,400 | 0 |" in printed


def test_the_benchmark_finds_no_bit_that_differs():
    printed = _run("python", "benchmark", '--only=["inference"]', "--batch_size=16", "--repeats=1")
    assert "scores that differ in any bit: 0 of 16384" in printed
