"""The command `eqrestore weights`."""

from eqrestore_lightning import TranslationEstimator, save_estimator
from eqrestore_lightning.weights import bundled_weights
from eqrestore_lightning.weights._card import model_card, weights_table


def test_lists_the_bundled_weights(run):
    told = run("weights")
    assert told == weights_table() == run("weights", "all")
    assert all(f"| {name} " in told for name in bundled_weights())


def test_prints_the_card_of_bundled_weights_and_of_a_file(run, tmp_path):
    assert run("weights", "mnist") == model_card("mnist")
    path = tmp_path / "mine.safetensors"
    estimator = TranslationEstimator(1, (9, 9))
    save_estimator(
        estimator, path, metadata={"arguments": '{"epochs": 3}', "data": "0123456789abcdef"}
    )
    told = run("weights", path)
    assert "- arguments: epochs: 3\n" in told
    assert "- 0123456789abcdef" in told


def test_user_errors_are_one_line(fails, tmp_path):
    assert "Expected `name` to be one of ['cifar10', " in fails("weights", "mnits")
    assert "found none at" in fails("weights", tmp_path / "no.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    assert "to be a safetensors file" in fails("weights", tmp_path / "bad.safetensors")
