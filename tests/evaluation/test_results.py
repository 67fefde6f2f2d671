import json
import re
import sys
from pathlib import Path

import pytest
import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from wandb_offline import read_history, read_records

from eqrestore_lightning.evaluation import Evaluation, Result
from eqrestore_lightning.evaluation._results import NO_RESTORER, wilson_interval


def _evaluation(labels=("0", "4", "8"), axis="largest shift (pixels)"):
    results = []
    for number, label in enumerate(labels):
        at = float(label) if label.isdigit() else None
        share = 1 - number / 2 / len(labels)
        plain = {"accuracy": share, "consistency": share}
        found = {"accuracy": 0.975, "consistency": 1.0, "shift_distance": 0.25 * number}
        results += [Result(NO_RESTORER, label, at, plain), Result("restored", label, at, found)]
    return Evaluation(axis, results, units={"shift_distance": "pixels"})


def test_few_motions_are_columns():
    table = _evaluation(("0", "4", "any")).table(reference={"paper": [98.5, 97, 96.25]})
    assert table.splitlines() == [
        "| largest shift (pixels) | 0 | 4 | any |",
        "|---|---|---|---|",
        "| accuracy, no restorer | 100.00 | 83.33 | 66.67 |",
        "| accuracy, restored | 97.50 | 97.50 | 97.50 |",
        "| paper | 98.50 | 97.00 | 96.25 |",
        "| consistency, no restorer | 100.00 | 83.33 | 66.67 |",
        "| consistency, restored | 100.00 | 100.00 | 100.00 |",
        "| shift distance in pixels, restored | 0.00 | 0.25 | 0.50 |",
    ]


def test_many_motions_are_rows():
    labels = [str(angle) for angle in range(0, 360, 15)]
    lines = _evaluation(labels, "angle (degrees)").table(measures=["accuracy"]).splitlines()
    assert lines[:3] == [
        "| angle (degrees) | accuracy, no restorer | accuracy, restored |",
        "|---|---|---|",
        "| 0 | 100.00 | 97.50 |",
    ]
    assert len(lines) == 2 + 24


def test_missing_figures_leave_cells_empty_and_bars_do_not_end_them():
    results = [
        Result("a|b", "0", 0.0, {"accuracy": 1.0, "agreement": 0.5}),
        Result("a|b", "1", 1.0, {"accuracy": 0.0}),
    ]
    assert Evaluation("x", results).table().splitlines()[2:] == [
        "| accuracy, a\\|b | 100.00 | 0.00 |",
        "| agreement, a\\|b | 50.00 |  |",
    ]


def test_rows_are_plain_and_results_are_found_by_name():
    evaluation = _evaluation()
    rows = evaluation.rows()
    assert json.loads(json.dumps(rows)) == rows
    assert rows[3] == {
        "restorer": "restored",
        "motion": "4",
        "at": 4.0,
        "accuracy": 0.975,
        "consistency": 1.0,
        "shift_distance": 0.25,
    }
    assert evaluation.get("restored", "4").measures["shift_distance"] == 0.25
    assert evaluation.curve(NO_RESTORER, "accuracy")[0] == [0.0, 4.0, 8.0]
    assert _evaluation(("9", "any", "3")).curve("restored", "shift_distance") == ([3, 9], [0.5, 0])


def test_the_verdict_has_the_interval_of_wilson_and_a_hint_where_the_classifier_is_wrong():
    results = [
        Result(NO_RESTORER, "8", 8.0, {"accuracy": 0.25}),
        Result("r", "8", 8.0, {"accuracy": 0.5}),
    ]
    unmoved = {NO_RESTORER: 0.75, "r": 0.5}
    lines = Evaluation("shift", results, num_images=40, unmoved=unmoved).verdict().splitlines()
    # 0.25 of 40: (0.25 + z²/80 ± z √(0.25 · 0.75 / 40 + z²/6400)) / (1 + z²/40), by hand
    assert lines == [
        "40 images, accuracy without → with the restorer (95 % confidence intervals):",
        "moved, shift 8: 25.0 % (14.2 to 40.2) → 50.0 % (35.2 to 64.8)",
        "unmoved: 75.0 % (59.8 to 85.8) → 50.0 % (35.2 to 64.8)",
    ]
    low = Evaluation("shift", results, num_images=40, unmoved={NO_RESTORER: 0.1, "r": 0.1})
    assert "check that the size, the range and the normalization" in low.verdict("r", "8")
    assert "unmoved: 10.0 % (4.0 to 23.1) → " in low.verdict()
    for share, count in ((0.0, 7), (1.0, 7), (0.3, 200)):  # the interval solves Wilson's equation
        for end in wilson_interval(share, count):
            assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / count)
    with pytest.raises(ValueError, match="Expected accuracies of unmoved images behind 'restored'"):
        _evaluation().verdict()


def test_rejections(tmp_path):
    evaluation = _evaluation()
    with pytest.raises(ValueError, match=r"Expected 3 figures in the row 'paper', but got 2\."):
        evaluation.table(reference={"paper": [1.0, 2.0]})
    known = "['accuracy', 'consistency', 'shift_distance']"
    with pytest.raises(ValueError, match=re.escape(f"measures of {known}, but got ['f1'].")):
        evaluation.table(measures=["f1"])
    with pytest.raises(ValueError, match="but got 'none' and '4'"):
        evaluation.get("none", "4")
    with pytest.raises(ValueError, match=re.escape("for the x axis, but got ['any'].")):
        _evaluation(["any"]).draw(tmp_path / "a.png")


def test_pictures(tmp_path):
    with Image.open(_evaluation().draw(tmp_path / "a.png", title="T")) as picture:
        assert picture.width > picture.height > 300
        assert len(picture.convert("RGB").getcolors(100_000)) > 20


def test_pictures_need_matplotlib(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match="Expected matplotlib, which draws pictures, to be installed"
    ):
        _evaluation().draw(tmp_path / "a.png")


def test_wandb_gets_curves_a_chart_and_a_table(tmp_path):
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="p")
    try:
        _evaluation(("0", "4", "any")).log(logger, "shifts")
    finally:
        wandb.finish()
        wandb.teardown()  # the file is complete when the writing process has ended
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = read_history(file)
    assert history["shifts/largest shift (pixels)"] == ["0", "4"]
    assert history["shifts/accuracy, restored"] == ["0.975", "0.975"]
    assert [float(value) for value in history["shifts/consistency, no restorer"]] == [
        pytest.approx(1),
        pytest.approx(1 - 1 / 6),
    ]
    (table,) = Path(file.parent).glob("files/media/table/tables/shifts*.json")
    content = json.loads(table.read_text())
    assert content["columns"][:4] == ["restorer", "motion", "at", "accuracy"]
    assert [row[:4] for row in content["data"]][-1] == ["restored", "any", None, 0.975]
    assert any(key.startswith("charts/shifts") for key in history)
    metrics = [record.metric for record in read_records(file) if record.HasField("metric")]
    assert any(metric.glob_name == "shifts/*" for metric in metrics)


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_other_loggers_get_the_curves(tmp_path):
    logger = CSVLogger(tmp_path)
    _evaluation().log(logger, "shifts")
    logger.save()
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 3
    assert "shifts/accuracy, restored" in lines[0]
