"""Cards that say what weights are for, how they were made, and what was measured."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqrestore_lightning.files._markdown import markdown_table
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.weights._bundled import bundled_weights, weights_file
from eqrestore_lightning.weights._digest import DIGEST
from eqrestore_lightning.weights._files import load_estimator, read_metadata, read_notes

_LONGEST = 2000  # characters of a note
_CARD = """{head}# {title}

Undoes {purpose}, in front of any classifier, without retraining it.

```python
from eqrestore_lightning import RestoreTransform

restore = RestoreTransform{call}({name})
# before `Normalize`: nn.Sequential(restore, v2.Normalize(…), your_classifier)
```

{facts}
{sections}
Method: *Restore Translation Using Equivariant Neural Networks*
([arXiv:2306.16938](https://arxiv.org/abs/2306.16938)), as implemented by eqrestore-lightning.
"""
_HEAD = """---
license: {license}
library_name: eqrestore-lightning
tags: {tags}
---

"""


def model_card(source: str | os.PathLike[str], *, repo_id: str | None = None) -> str:
    """Describe weights in Markdown, from the notes that `save_estimator(metadata=…)` was given.

    `purpose`, `license`, `data`, `results` and `not_for`, as in the records of `bundled_weights`,
    have places of their own; others are listed. Values are texts, or JSON where they have parts.

    Args:
        source: A name listed by `bundled_weights`, or the path of a `.safetensors` file.
        repo_id: Name on the Hub, `"user/name"`, for the head that the Hub reads and the example.

    Raises:
        ValueError: If `source` is no such name or path, or the file is malformed or damaged.

    >>> print(model_card("digits").splitlines()[0])
    # digits
    """
    path = weights_file(source)
    if path.suffix != ".safetensors":
        raise ValueError(f"Expected `source` to end in .safetensors, but got {str(source)!r}.")
    estimator, record = load_estimator(path), _record(read_notes(source))
    facts = _facts(estimator, path)
    kinds = [field.name for field in estimator.motion.fields]
    sections = {
        "Measured": _measured(record),
        "Not for": _bullets(record.pop("not_for", None)),
        "Data": _bullets(record.pop("data", None)),
    }
    purpose = record.pop("purpose", " and ".join(kinds))
    terms = _text(record.get("license", "other"))
    tags = ["equivariance", "eqrestore-lightning", *kinds]
    return _CARD.format(
        head=_HEAD.format(license=_json(terms), tags=_json(tags)) if repo_id else "",
        title=_text(repo_id.split("/")[-1] if repo_id else path.stem),
        purpose=_text(purpose),
        call=".from_pretrained" if repo_id else "",
        name=_json(_text(repo_id or str(source))),
        facts=_bullets(facts | dict(sorted(record.items())) | facts),  # which notes cannot replace
        sections="".join(f"\n## {name}\n\n{text}\n" for name, text in sections.items() if text),
    )


def weights_table() -> str:
    """List the bundled weights: what they undo, what images they take, and one figure of each.

    >>> weights_table().splitlines()[5].split(" | ")[:2]
    ['| digits', "circular shifts of scikit-learn's digits, padded with zeros"]
    """
    rows = []
    for name, record in bundled_weights().items():
        first = record["results"]["rows"][0]
        rows.append(
            {
                "weights": name,
                "undo": record["purpose"],
                "images": _image_size(load_estimator(name)),
                "number": record["weights"],
                "measured": f"{_figure(record, first)}: {first['what']}",
            }
        )
    return markdown_table(rows) + "\n"


def _record(notes: Mapping[str, str]) -> dict[str, Any]:
    """Return notes as values; the entry `"notes"` holds others, as recipes write them."""
    values = {name: _parsed(text) for name, text in notes.items()}
    inner = values.pop("notes", {})
    return {**(inner if isinstance(inner, dict) else {"notes": inner}), **values}


def _parsed(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        value = json.loads(text)
        _json(value)  # numbers may have too many digits to be written
    except (ValueError, RecursionError):
        return text
    return value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _text(value: object) -> str:
    """Return a note as one line: files may come from anyone, and cards go to terminals."""
    if isinstance(value, dict):
        value = "; ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    words = " ".join(_plain(value).split())
    text = "".join(letter for letter in words if letter.isprintable()).replace("<", "&lt;")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _bullets(value: Any) -> str:
    parts = value if isinstance(value, list) else [value] if value else []
    if isinstance(value, dict):
        named = {name.replace("_", " "): each for name, each in value.items() if each != {}}
        parts = [f"{name}: {_text(each)}" for name, each in named.items()]
    return "\n".join(f"- {_text(part)}" for part in parts)


def _image_size(estimator: Estimator) -> str:
    size = estimator.spatial_size or ("any",) * estimator.num_spatial_dims
    return " × ".join(map(str, (estimator.in_channels, *size)))


def _facts(estimator: Estimator, path: Path) -> dict[str, Any]:
    found = [
        f"`{field.name}`" + (f" ({', '.join(field.columns)})" if field.columns else "")
        for field in estimator.motion.fields
    ]
    return {
        "finds": " and ".join(found),
        "images": _image_size(estimator),
        "estimator": type(estimator).__name__,
        "weights": sum(tensor.numel() for tensor in estimator.state_dict().values()),
        DIGEST: read_metadata(path)[DIGEST],
    }


def _measured(record: dict[str, Any]) -> str:
    """Take results out of a record, as a table beside rules; as a list if they are others."""
    results, metrics = record.pop("results", None), record.pop("metrics", None)
    try:
        rows = [_row({"metrics": metrics}, row) for row in results["rows"]]
        commands = [
            results["command"],
            *(row.get("rule", {}).get("command") for row in results["rows"]),
        ]
        printed = " and ".join(f"`{_text(each)}`" for each in dict.fromkeys(filter(None, commands)))
        return f"{markdown_table(rows)}\n\nPrinted by {printed}, on {_text(results['images'])}."
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        return _bullets(results or metrics)


def _row(record: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, str]:
    rule = row.get("rule")
    told = f"{_figure(record, {**row, **rule})} ({_text(rule['name'])})" if rule else "not measured"
    return {
        "": _text(row["what"]),
        "measured": _text(_figure(record, row)),
        "a rule that needs no training": _text(told),
    }


def _figure(record: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return the figure of a row of `results`: its own value, or the metric that it names."""
    value = row["value"] if "value" in row else record["metrics"][row["metric"]]
    return f"{value:.2f} {row['unit']}" if "unit" in row else f"{100 * value:.2f} %"
