"""What cards say, and that hostile notes do not say more."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from eqrestore_lightning import TranslationEstimator
from eqrestore_lightning.weights import bundled_weights, load_estimator, save_estimator
from eqrestore_lightning.weights._card import model_card, weights_table
from eqrestore_lightning.weights._digest import DIGEST
from eqrestore_lightning.weights._files import read_metadata, read_notes

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
def test_cards_of_bundled_weights(name):
    text, record = model_card(name), bundled_weights()[name]
    assert text.startswith(f"# {name}\n\nUndoes {record['purpose']}, in front of")
    sections = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert sections == ["Measured", "Not for", "Data"]
    for told in (record["digest"], f"- weights: {record['weights']}\n", record["data"]["license"]):
        assert told in text
    assert "nan" not in text
    for row in record["results"]["rows"]:
        assert f"| {row['what']} | " in text
    scripts = re.findall(r"recipes/\w+\.py", text)
    assert len(scripts) >= 2
    assert all((ROOT / script).is_file() for script in scripts)
    head, body = _head(model_card(name, repo_id=f"me/{name}"))
    assert head["license"] == record["license"] == "mit"
    assert {field.name for field in load_estimator(name).motion.fields} <= set(head["tags"])
    assert f'RestoreTransform.from_pretrained("me/{name}")' in body


def test_figures_are_those_of_the_record():
    text = model_card("photo")
    record = bundled_weights()["photo"]
    for row in record["results"]["rows"]:
        told = f"| {row['what']} | {100 * record['metrics'][row['metric']]:.2f} % | "
        assert f"{told}{100 * row['rule']['value']:.2f} % ({row['rule']['name']}) |" in text
    assert f"Printed by `{record['results']['command']}`, on test images" in text


def test_the_example_of_a_card_runs():
    for name in ("digits", "photo"):
        (code,) = re.findall(r"```python\n(.*?)```", model_card(name), flags=re.DOTALL)
        exec(code, {})


def test_the_table_has_a_row_for_each():
    lines = weights_table().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(bundled_weights())
    for line, record in zip(lines[2:], bundled_weights().values(), strict=True):
        assert line.endswith(f": {record['results']['rows'][0]['what']} |")
    assert "| 3 × any × any | 22,291 | 98.25 %: " in lines[-1]


_WHOLE = """---
license: "cc-by-4.0"
library_name: eqrestore-lightning
tags: ["equivariance", "eqrestore-lightning", "shift"]
---

# leaves.v2

Undoes circular shifts of leaves, in front of any classifier, without retraining it.

```python
from eqrestore_lightning import RestoreTransform

restore = RestoreTransform.from_pretrained("me/leaves.v2")
# before `Normalize`: nn.Sequential(restore, v2.Normalize(…), your_classifier)
```

- finds: `shift` (down, right)
- images: 1 × 8 × 9
- estimator: TranslationEstimator
- weights: 36
- digest: {digest}
- arguments: é: 1; b: [2]
- command: eqrestore fit a b
- license: cc-by-4.0
- settings: min_margin: 3

## Measured

|  | measured | a rule that needs no training |
|---|---|---|
| exact | 50.00 % | not measured |
| off | 1.50 degrees | 2.00 degrees (none) |

Printed by `x` and `y`, on 9 leaves.

## Not for

- cats
- dogs

## Data

- 63 leaves
"""


def test_a_card_as_a_whole(card, tmp_path):
    rule = {"name": "none", "value": 2, "command": "y"}
    rows = [
        {"what": "exact", "value": 0.5},
        {"what": "off", "value": 1.5, "unit": "degrees", "rule": rule},
    ]
    text = card(
        "me/leaves.v2",
        purpose="circular shifts of leaves",
        license="cc-by-4.0",
        data="63 leaves",
        not_for='["cats", "dogs"]',
        settings='{"min_margin": 3}',
        command="eqrestore fit a b",
        arguments='{"é": 1, "b": [2]}',
        versions="{}",
        weights="10**9",
        results=json.dumps({"command": "x", "images": "9 leaves", "rows": rows}),
    )
    path = tmp_path / "mine.safetensors"
    whole = _WHOLE.format(digest=read_metadata(path)[DIGEST])
    assert text[: len(whole)] == whole
    assert text[len(whole) :].startswith("\nMethod: ")
    assert read_notes(path)["command"] == "eqrestore fit a b"


def test_a_file_without_notes(card, tmp_path):
    text = card()
    assert text.startswith("# mine\n\nUndoes shift, in front of any classifier")
    assert f'RestoreTransform("{tmp_path / "mine.safetensors"}")' in text
    assert "##" not in text
    assert _head(card(repo_id="me/mine"))[0]["license"] == "other"


def test_other_sources_are_refused(tmp_path, card):
    with pytest.raises(ValueError, match=r"Expected `source` to be one of \[.*\] or a path"):
        model_card("no-such-name")
    with pytest.raises(FileNotFoundError, match="Expected a file of weights, but found none at"):
        model_card(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match=r"Expected `source` to end in \.safetensors, but got"):
        model_card(tmp_path / "no.ckpt")
    assert read_notes(tmp_path / "no.ckpt") == {}


@pytest.mark.parametrize(
    "text", ["mit\n---\nevil: true", "mit\x1b[2J", "[mit]", "{x: y}", "!!python/name:os.system", ""]
)
def test_notes_cannot_write_into_the_head(text, card):
    head, _ = _head(card(repo_id="me/mine", license=text, purpose=text))
    assert set(head) == {"license", "library_name", "tags"}
    assert isinstance(head["license"], str)


def test_notes_cannot_steer_a_terminal_or_break_a_table(card):
    text = card(purpose="\x1b]0;owned\x07 a <script> \u202eabc", author="x\n## Not measured\ny")
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "a &lt;script> abc" in text
    assert "\n- author: x ## Not measured y\n" in text


def _values():
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8)


KEYS = ["purpose", "license", "data", "metrics", "results", "not_for", "settings", "notes", "other"]
ROW = st.dictionaries(st.sampled_from(["what", "value", "metric", "rule", "unit"]), _values())
ROWS = st.fixed_dictionaries({"rows": st.lists(ROW), "command": _values(), "images": _values()})


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


def test_notes_of_bundled_weights_keep_their_letters():
    assert "\\u" not in read_notes("photo")["notes"]
    assert "digest" not in json.loads(read_notes("photo")["notes"])
