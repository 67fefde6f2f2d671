"""What cards say, and that hostile notes do not say more."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from eqrestore_lightning import TranslationEstimator
from eqrestore_lightning.weights import (
    bundled_weights,
    load_estimator,
    read_notes,
    save_estimator,
    weights_table,
)
from eqrestore_lightning.weights._card import model_card
from eqrestore_lightning.weights._digest import DIGEST
from eqrestore_lightning.weights._files import read_metadata

ROOT = Path(__file__).parent.parent.parent
yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    return TranslationEstimator(1, (8, 9), hidden_channels=[2], kernel_size=3)


@pytest.fixture
def card(estimator, tmp_path):
    """Return the card of a file with these notes."""

    def made(repo_id=None, **notes):
        save_estimator(estimator, tmp_path / "mine.safetensors", metadata=notes)
        return model_card(tmp_path / "mine.safetensors", repo_id=repo_id)

    return made


def _head(text):
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_weights_have_a_whole_record(name):
    record = bundled_weights()[name]
    assert record["purpose"]
    assert record["license"] == "mit"
    assert {"train", "test", "license"} <= set(record["data"])
    assert record["not_for"]
    results = record["results"]
    assert re.search(r"recipes/(\w+\.py)", results["command"])
    assert results["rows"]
    for row in results["rows"]:
        assert row.get("metric") in {None, *record["metrics"]}
        assert ("metric" in row) != ("value" in row)


@pytest.mark.parametrize("name", bundled_weights())
def test_every_command_of_a_card_names_a_recipe_that_there_is(name):
    scripts = re.findall(r"recipes/\w+\.py", model_card(name))
    assert len(scripts) >= 2
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("name", bundled_weights())
def test_cards_of_bundled_weights(name):
    text = model_card(name)
    assert text.startswith(f"# {name}\n\nUndoes {bundled_weights()[name]['purpose']}, in front of")
    sections = ["Use", "Measured", "Not for", "Data", "How it was made", "Method"]
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == sections
    assert bundled_weights()[name]["digest"] in text
    assert f"{bundled_weights()[name]['weights']:,} weights" in text
    assert "nan" not in text
    head, body = _head(model_card(name, repo_id=f"me/{name}"))
    assert head["license"] == "mit"
    assert head["library_name"] == "eqrestore-lightning"
    assert {field.name for field in load_estimator(name).motion.fields} <= set(head["tags"])
    assert f'RestoreTransform.from_pretrained("me/{name}")' in body


def test_figures_are_those_of_the_record():
    text = model_card("photo")
    record = bundled_weights()["photo"]
    for row in record["results"]["rows"]:
        told = f"| {row['what']} | {100 * record['metrics'][row['metric']]:.2f} % | "
        assert f"{told}{100 * row['rule']['value']:.2f} % ({row['rule']['name']}) |" in text
    assert f"Printed by `{record['results']['command']}`." in text


def test_the_example_of_a_card_runs():
    for name in ("digits", "photo"):
        (code,) = re.findall(r"```python\n(.*?)```", model_card(name), flags=re.DOTALL)
        exec(code, {})


def test_the_table_has_a_row_for_each():
    lines = weights_table().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(bundled_weights())
    assert all(line.count("|") == 6 for line in lines)
    assert "| 3 × any × any " in lines[2 + list(bundled_weights()).index("photo")]


def test_a_file_of_your_own(card, tmp_path):
    text = card(
        command="make it",
        license="cc-by-4.0",
        data=json.dumps({"train": "mine", "license": "all rights reserved"}),
        not_for=json.dumps(["cats", "dogs"]),
        purpose="shifts of leaves",
        settings='{"min_margin": 3}',
        results=json.dumps({"command": "x", "rows": [{"what": "exact", "value": 0.5}]}),
    )
    path = tmp_path / "mine.safetensors"
    assert text.startswith("# mine\n\nUndoes shifts of leaves, in front of any classifier")
    for told in (
        f'RestoreTransform("{path}")',
        "| images | 1 × 8 × 9 |",
        f"| file | {path.stat().st_size:,} bytes |",
        "| license of the weights | cc-by-4.0 |",
        "| settings of `from_pretrained` | `min_margin: 3` |",
        "- cats\n- dogs\n",
        "- train: mine\n- license: all rights reserved\n",
        "| exact | 50.00 % | not measured |\n\nPrinted by `x`.\n",
        "| command | `make it` |",
    ):
        assert told in text
    assert read_notes(path)["command"] == "make it"


def test_data_may_be_said_in_words(card):
    assert "## Data\n\n- 63 leaves\n" in card(data="63 leaves")
    assert card(repo_id="me/leaves.v2").count("\n# leaves.v2\n") == 1


def test_a_file_without_notes(card):
    text = card()
    assert text.startswith("# mine\n\nUndoes shift, in front of any classifier")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Use", "Method"]
    head, _ = _head(card(repo_id="me/mine"))
    assert "license" not in head


def test_other_sources_are_refused(tmp_path, card):
    with pytest.raises(ValueError, match=r"Expected `source` to be one of \[.*\] or a path"):
        model_card("no-such-name")
    with pytest.raises(FileNotFoundError, match="Expected a file of weights, but found none at"):
        model_card(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match=r"Expected `source` to end in \.safetensors, but got"):
        model_card(tmp_path / "no.ckpt")
    assert read_notes(tmp_path / "no.ckpt") == {}
    card()
    path = tmp_path / "mine.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="the file is damaged"):
        model_card(path)


@pytest.mark.parametrize(
    "text",
    ["mit\n---\nevil: true", "mit\x1b[2J", "[mit]", "{x: y}", "!!python/name:os.system", "Mit", ""],
)
def test_notes_cannot_write_into_the_head(text, card):
    head, _ = _head(card(repo_id="me/mine", license=text, purpose=text))
    assert set(head) == {"library_name", "tags"}


def test_notes_cannot_steer_a_terminal_or_break_a_table(card):
    text = card(purpose="\x1b]0;owned\x07 a|b <script> \u202eabc", author="x\n## Not measured\ny|z")
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert r"a\|b &lt;script> abc" in text
    assert r"| author | x ## Not measured y\|z |" in text
    assert "\n## Not measured" not in text


def _values():
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8)


KEYS = ["purpose", "license", "data", "metrics", "results", "not_for", "settings", "notes", "other"]
ROWS = st.fixed_dictionaries(
    {
        "rows": st.lists(
            st.dictionaries(st.sampled_from(["what", "value", "metric", "rule"]), _values())
        )
    }
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    notes=st.dictionaries(st.sampled_from(KEYS), _values().map(json.dumps) | ROWS.map(json.dumps))
)
def test_any_notes_make_a_card(notes, card):
    text = card(repo_id="me/mine", **notes)
    head, _ = _head(text)
    assert head["library_name"] == "eqrestore-lightning"
    assert all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, f"[{'9' * 5000}]", "[1e999]", "{"])
def test_extreme_notes_make_a_card(text, card):
    limit = sys.get_int_max_str_digits()
    assert limit  # as Python sets it
    for key in KEYS:
        assert len(card(**{key: text})) < 6000


_WHOLE = """---
license: mit
library_name: eqrestore-lightning
tags:
- equivariance
- eqrestore-lightning
- shift
---

# leaves

Undoes circular shifts of leaves, in front of any classifier, without retraining it.

| | |
|---|---|
| finds | `shift` (down, right), pixels |
| images | 1 × 8 × 9 |
| estimator | `TranslationEstimator`, 36 weights |
| file | {size} bytes |
| digest | `{digest}` |
| license of the weights | mit |

## Use

```python
from eqrestore_lightning import RestoreTransform

restore = RestoreTransform.from_pretrained("me/leaves")
# before `Normalize`: nn.Sequential(restore, v2.Normalize(…), your_classifier)
```

## Data

- 0123456789abcdef

## How it was made

| | |
|---|---|
| arguments | é: 1 |
| command | `eqrestore fit a b` |

## Method

"""


def test_a_card_as_a_whole(card, tmp_path):
    notes = {
        "purpose": "circular shifts of leaves",
        "license": "mit",
        "data": "0123456789abcdef",
        "command": "eqrestore fit a b",
        "arguments": json.dumps({"é": 1}),
        "versions": "{}",
    }
    text = card("me/leaves", **notes)
    path = tmp_path / "mine.safetensors"
    digest = read_metadata(path)[DIGEST]
    whole = _WHOLE.format(size=path.stat().st_size, digest=digest)
    assert text[: len(whole)] == whole
    assert len(text.removeprefix(whole).splitlines()) == 1


def test_the_table_has_a_rule_under_its_head_and_columns_of_one_width():
    head, rule, *rows = weights_table().splitlines()
    assert head.startswith("| weights ")
    assert set(rule) == {"|", "-", " "}
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(bundled_weights())
    assert len({row.rindex(" | ") for row in (head, *rows)}) == 1


def test_notes_of_bundled_weights_keep_their_letters():
    assert "\\u" not in read_notes("photo")["notes"]
    assert "digest" not in json.loads(read_notes("photo")["notes"])


def test_the_table_shows_the_first_result_of_each():
    for row, record in zip(
        weights_table().splitlines()[2:], bundled_weights().values(), strict=True
    ):
        assert row.rstrip("| ").endswith(f": {record['results']['rows'][0]['what']}")
