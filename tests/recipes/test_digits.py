"""The recipe that is read first, started as users start it; its relatives on digits made here."""

import json
import re
import shutil
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
from wandb_offline import read_history, read_records

from eqrestore_lightning import RestoreTransform, load_estimator

ROOT = Path(__file__).parent.parent.parent
EPOCHS = ["--classifier_epochs=3", "--restorer_epochs=4"]
SHORT = ["--classifier_epochs=1", "--restorer_epochs=1"]
QUIET = pytest.mark.filterwarnings("ignore:.*unclosed")


@pytest.fixture(scope="module")
def digits(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return folder, launch("digits", f"--output={folder}", *EPOCHS)


def test_digits_prints_its_tables_once_and_reports_that_wandb_is_offline(digits):
    folder, printed = digits
    assert printed.count("| accuracy, restored |") == 2  # circular and zero-fill
    assert printed.count("Logging to W&B offline") == 1
    tables = (folder / "tables.md").read_text(encoding="utf-8").split("## ")
    circular = next(table for table in tables if table.startswith("circular shifts\n"))
    assert circular.partition("\n\n")[2].strip() in printed
    rows = {line.split(" | ")[0]: line for line in circular.splitlines()}
    restored = re.findall(r"\d+\.\d\d", rows["| accuracy, restored"])
    assert len(restored) == 9
    assert len(set(restored)) == 1  # the same for every size of shift


def test_digits_writes_one_wandb_run_with_everything(digits):
    folder, _ = digits
    (run,) = (folder / "wandb").glob("offline-run-*")
    (file,) = run.glob("run-*.wandb")
    history = read_history(file)
    assert len(history["classifier-train/loss"]) == 3
    assert len(history["restorer-train/loss"]) == 4
    assert len(history["restorer-val/shift_accuracy"]) == 4
    for title in ("circular shifts", "zero-fill shifts"):
        assert len(history[f"{title}/largest shift (pixels)"]) == 9
        for name in ("no restorer", "restored"):
            assert len(history[f"{title}/accuracy, {name}"]) == 9
        assert any(key.startswith(f"charts/{title}") for key in history)
    rows = {
        path.name.split("_")[0]: len(json.loads(path.read_text(encoding="utf-8"))["data"])
        for path in run.glob("files/media/table/tables/*.json")
    }
    assert rows == {
        "circular shifts": 18,
        "zero-fill shifts": 18,
        "gate": 5,
        "shifts found on test images": 1,
    }
    pictures = {path.name.partition(".")[0] for path in run.glob("files/media/images/*.png")}
    assert pictures == {"restored", "accuracy", "restorer-restored"}
    (animation,) = run.glob("files/media/videos/*.gif")
    with PIL.Image.open(animation) as picture:
        assert picture.n_frames == 40
    (begun,) = (record.run for record in read_records(file) if record.HasField("run"))
    assert begun.run_group == "digits"
    assert sorted(begun.tags) == ["digits", "translation"]
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["classifier_epochs"] == 3
    assert config["command"].startswith("recipes/digits.py --output=")


def test_digits_leaves_files_that_restore(digits):
    folder, _ = digits
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    notes = results["weights digits"]
    restored = [row for row in results["circular shifts"] if row["restorer"] == "restored"]
    assert {row["consistency"] for row in restored} == {1.0}
    assert notes["metrics"]["exact"] == pytest.approx(restored[0]["shift_accuracy"], abs=1e-6)
    assert notes["training"]["epochs"] == 4
    image = torch.zeros(1, 32, 32)
    for source in (folder / "digits.safetensors", folder / "restorer" / "restorer.ckpt"):
        RestoreTransform(source)(image)


def test_the_example_of_the_page_runs(digits, capsys):
    page = (ROOT / "docs" / "classifier.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    example = next(block for block in blocks if "outputs/digits" in block)
    assert len(example.splitlines()) <= 8
    exec(example.replace("outputs/digits", str(digits[0])), {})
    (accuracy,) = map(float, re.findall(r"tensor\((.*?)\)", capsys.readouterr().out))
    assert accuracy > 0.5  # the fixture trains for seconds only


def _wandb_files(folder):
    return [
        file for run in (folder / "wandb").glob("offline-run-*") for file in run.glob("*.wandb")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("num_nodes", [1, 2])
@pytest.mark.parametrize("launcher", ["lightning", "torchrun", "fabric"])
def test_digits_reaches_the_same_with_one_process_and_two(
    digits, launch, launcher, num_nodes, tmp_path
):
    arguments = [f"--output={tmp_path}", *EPOCHS]
    printed = launch("digits", *arguments, launcher=launcher, num_nodes=num_nodes)
    assert printed.count("| accuracy, restored |") == 2
    one, two = (load_estimator(path / "digits.safetensors") for path in (digits[0], tmp_path))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-2, atol=1e-3)
    (first,), (second,) = (_wandb_files(folder) for folder in (digits[0], tmp_path))
    first, second = read_history(first), read_history(second)
    assert set(first) == set(second)
    for key in first:  # the classifier normalizes the batch of each process by itself
        if key.startswith(("restorer-val/", "restorer-train/")):
            values = [[float(value) for value in history[key]] for history in (first, second)]
            assert values[1] == pytest.approx(values[0], rel=0.03, abs=0.01)
    stages = [tmp_path / stage for stage in ("classifier", "restorer")]
    for folder in stages:
        assert [path.name for path in folder.rglob("*.ckpt")] == [f"{folder.name}.ckpt"]


@pytest.mark.slow
def test_digits_resumes_and_trains_nothing_twice(digits, launch, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(digits[0], folder)
    (folder / "restorer" / "restorer.ckpt").unlink()
    printed = launch("digits", f"--output={folder}", *EPOCHS)
    assert f"Reusing {folder / 'classifier' / 'classifier.ckpt'}." in printed
    first, second = (
        json.loads((path / "results.json").read_text(encoding="utf-8"))
        for path in (digits[0], folder)
    )
    assert first["circular shifts"] == second["circular shifts"]
    weights, again = (
        load_estimator(path / "digits.safetensors").state_dict() for path in (digits[0], folder)
    )
    for name, value in weights.items():
        assert torch.equal(again[name], value)
    with pytest.raises(AssertionError, match="to be empty or to contain this very stage"):
        launch("digits", f"--output={folder}", "--classifier_epochs=2")


@QUIET
def test_mnist_prints_rules_beside_the_restorer(load, made_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipes/mnist.py", "--enlarge", "resize"])
    options = {"data": made_mnist, "classifier_epochs": 1, "restorer_epochs": 1}
    load("mnist").main(**options, enlarge="resize", output=tmp_path)
    printed = capsys.readouterr().out
    for name in ("center of mass in its window", "first-harmonic phase", "blank border"):
        assert f"| accuracy, rule: {name} |" in printed
        assert f"| rule: {name} |" in printed
    assert "| accuracy, paper (resized): restored | 98.59 |" in printed
    assert RestoreTransform(tmp_path / "mnist-resize.safetensors").estimator.in_channels == 1
    with pytest.raises(ValueError, match="'enlarge': 'pad'"):
        load("mnist").main(**options, enlarge="pad", output=tmp_path)


@QUIET
def test_networks_and_rules_are_compared_in_one_table(load, made_mnist, tmp_path, capsys):
    names = ["rule: blank border", "16 channels, 3 × 3 dilated 1,1,2,4,8,1, skips"]
    load("mnist_tradeoff").main(data=made_mnist, only=names, output=tmp_path)
    printed = capsys.readouterr().out
    assert f"| {names[0]} | 1,024 | 0 | 0 |" in printed
    assert f"| {names[1]} | 9,584 | 1 |" in printed
    with pytest.raises(ValueError, match="Expected `only` to name rows"):
        load("mnist_tradeoff").main(data=made_mnist, only=["2 filters"], output=tmp_path)


@pytest.mark.slow
def test_volumes_are_restored(launch, mnist_root, tmp_path):
    arguments = [f"--data={mnist_root}", f"--output={tmp_path}", "--num_images=8", *SHORT]
    printed = launch("mnist3d", *arguments)
    assert "| accuracy, rule: first-harmonic phase |" in printed
    assert RestoreTransform(tmp_path / "mnist3d.safetensors").estimator.num_spatial_dims == 3
