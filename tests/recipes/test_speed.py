"""The speed script measures what it says."""

import json
from typing import get_args

import torch

from eqrestore_lightning import build_preset


def test_each_part_prints_its_table_and_logs_it(load, monkeypatch, tmp_path, capsys):
    speed = load("speed")
    monkeypatch.setattr(speed, "KERNELS", ((1, 3), (2, 3)))
    monkeypatch.setattr(speed, "ROUNDS", 2)
    weights = ["digits", "mnist-rotation"]
    only = [p for p in get_args(speed.Part) if p not in ("photographs", "sizes")]  # slow
    speed.main(only, weights, tmp_path, batch_size=8, min_seconds=0.01)
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for title in only:
        assert f"\n{title}\n\n|" in printed
    assert [row["ratio"] for row in results["training"]][1] == 1
    assert [row["ratio"] for row in results["inference"]][1] == 1
    assert len(results["crossover"]) == 3 + 2
    shift, turn = results["weights"]
    assert (shift["weights"], turn["weights"]) == tuple(weights)
    assert shift["polar sampling, %"] == 0
    assert 0 < turn["polar sampling, %"] < 100
    assert 0 < shift["ratio"] < 5
    logged = tmp_path.glob("wandb/offline-run-*/files/media/table/tables/*.json")
    assert {path.name.split("_")[0] for path in logged} == {*results["tables"]}


def test_photographs_of_a_size_take_time_and_memory(load):
    count, seconds, megabytes = load("speed").restore_photographs(512)
    assert count == 4
    assert seconds > 0
    assert megabytes >= 0


def test_the_reference_has_the_scores_of_the_paper_s_network(load):
    ours = build_preset("paper", 1, (32, 32))
    x = torch.rand(3, 1, 32, 32)
    x /= x.amax((1, 2, 3), keepdim=True)  # the estimator divides by the largest entry
    with torch.no_grad():
        theirs = load("speed").reference_network(ours)(x)
        torch.testing.assert_close(ours(x).flatten(1), theirs)
