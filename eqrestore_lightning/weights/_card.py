"""Cards that say what weights are for, how they were made, and what was measured."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.weights._bundled import (
    bundled_weights,
    load_estimator,
    read_notes,
    weights_file,
)
from eqrestore_lightning.weights._digest import DIGEST
from eqrestore_lightning.weights._files import read_metadata

_LONGEST = 2000  # characters of a note
_SHOWN = ("purpose", "license", "data", "metrics", "results", "not_for", "settings", "weights")


def model_card(source: str | os.PathLike[str], *, repo_id: str | None = None) -> str:
    """Describe weights in Markdown: purpose, data, figures and their commands, limits, origin.

    For files of your own it shows what `save_estimator(metadata=…)` was given. Keys that have a
    place of their own are `purpose`, `license`, `data`, `results` and `not_for`, as in the records
    of `bundled_weights`; others are listed. Values are texts, or JSON where they have parts.

    Args:
        source: A name listed by `bundled_weights`, or the path of a `.safetensors` file.
        repo_id: Name on the Hub, `"user/name"`, under which the card tells how to load the weights;
            the head that the Hub reads is then added.

    Returns:
        The card, which ends with a newline.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If `source` is neither a known name nor a path that ends in .safetensors, or the
            file is malformed or damaged.

    >>> print(model_card("digits").splitlines()[0])
    # digits
    """
    path = weights_file(source)
    if path.suffix != ".safetensors":
        raise ValueError(f"Expected `source` to end in .safetensors, but got {str(source)!r}.")
    estimator, record = load_estimator(source), _record(read_notes(source))
    fields = estimator.motion.fields
    name, call = (str(source), "") if repo_id is None else (repo_id, ".from_pretrained")
    kinds = " and ".join(field.name for field in fields)
    rest = {key: value for key, value in record.items() if key not in _SHOWN and value != {}}
    sections = {
        "Use": _USE.format(call=call, name=json.dumps(_plain(name))),
        "Measured": _results(record),
        "Not for": _bullets(record.get("not_for")),
        "Data": _bullets(record.get("data")),
        "How it was made": _HEAD + "\n".join(map(_row, sorted(rest.items()))) if rest else "",
        "Method": _METHOD,
    }
    parts = [
        f"# {_plain(path.stem if repo_id is None else repo_id.split('/')[-1])}",
        f"Undoes {_plain(record.get('purpose', kinds))}, in front of any classifier, without "
        f"retraining it.",
        _HEAD + "\n".join(_facts(estimator, record, path)),
        *(f"## {title}\n\n{text}" for title, text in sections.items() if text),
    ]
    if repo_id is not None:
        parts.insert(0, _hub_head([field.name for field in fields], record.get("license")))
    return "\n\n".join(parts) + "\n"


def weights_table() -> str:
    """List the bundled weights: what they undo, what images they take, and one figure of each.

    Returns:
        A table in Markdown, in columns, which ends with a newline.

    >>> weights_table().splitlines()[5]  # doctest: +ELLIPSIS
    "| digits ... | circular shifts of scikit-learn's digits... | 1 × 32 × 32 ... | 396 ... |"
    """
    rows = [("weights", "undo", "images", "number", "measured"), ("-",) * 5]
    for name, record in bundled_weights().items():
        first = record["results"]["rows"][0]
        size = _image_size(load_estimator(name))
        told = f"{_figure(record, first)}: {first['what']}"
        rows.append((name, record["purpose"], size, f"{record['weights']:,}", told))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [
            cell.ljust(width, "-" if cell == "-" else " ")
            for cell, width in zip(row, widths, strict=True)
        ]
        for row in rows
    ]
    return "".join(f"| {' | '.join(cells).rstrip()} |\n" for cells in lines)


_HEAD = "| | |\n|---|---|\n"
_USE = """```python
from eqrestore_lightning import RestoreTransform

restore = RestoreTransform{call}({name})
# before `Normalize`: nn.Sequential(restore, v2.Normalize(…), your_classifier)
```"""
_METHOD = (
    "*Restore Translation Using Equivariant Neural Networks* ([arXiv:2306.16938]"
    "(https://arxiv.org/abs/2306.16938)), as implemented by eqrestore-lightning. The estimator's "
    "scores move as the image moves; the place of the largest one says how the image was moved, "
    "and the original image is moved back in front of any classifier."
)


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
        json.dumps(value)
    except (ValueError, RecursionError):
        return text
    return value


def _plain(value: object) -> str:
    """Return a note as one line: files may come from anyone, and cards go to terminals."""
    if isinstance(value, dict):
        value = "; ".join(f"{name}: {_json(each)}" for name, each in value.items())
    text = "".join(letter for letter in " ".join(_json(value).split()) if letter.isprintable())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return text.replace("|", r"\|").replace("<", "&lt;")


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _code(value: object) -> str:
    return f"`{_plain(value).replace('`', chr(39))}`"


def _hub_head(fields: Sequence[str], terms: object) -> str:
    """Return what the Hub reads of a card: YAML between two rules."""
    known = isinstance(terms, str) and re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,40}", terms)
    lines = ["---", f"license: {terms}"] if known else ["---"]
    tags = ["equivariance", "eqrestore-lightning", *fields]
    lines += ["library_name: eqrestore-lightning", "tags:", *(f"- {tag}" for tag in tags), "---"]
    return "\n".join(lines)


def _image_size(estimator: Estimator) -> str:
    size = estimator.spatial_size or ("any",) * estimator.num_spatial_dims
    return " × ".join(map(str, (estimator.in_channels, *size)))


def _facts(estimator: Estimator, record: Mapping[str, Any], path: Path) -> Iterator[str]:
    count = sum(tensor.numel() for tensor in estimator.state_dict().values())
    for field in estimator.motion.fields:
        columns = f" ({', '.join(field.columns)})" if field.columns else ""
        yield f"| finds | `{field.name}`{columns}, {field.unit} |"
    yield f"| images | {_image_size(estimator)} |"
    yield f"| estimator | `{type(estimator).__name__}`, {count:,} weights |"
    yield f"| file | {path.stat().st_size:,} bytes |"
    yield f"| digest | {_code(read_metadata(path)[DIGEST])} |"
    if "license" in record:
        yield f"| license of the weights | {_plain(record['license'])} |"
    if "settings" in record:
        yield f"| settings of `from_pretrained` | {_code(record['settings'])} |"


def _results(record: Mapping[str, Any]) -> str:
    """Return a table of what was measured, with the best rule beside it."""
    results = record.get("results")
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        return _code(record["metrics"]) if "metrics" in record else ""
    lines = ["| | measured | a rule that needs no training |", "|---|---|---|"]
    commands = [results.get("command", "")]
    for row in (row for row in results["rows"] if isinstance(row, dict)):
        rule, told = row.get("rule"), "not measured"
        if isinstance(rule, dict):
            told = f"{_value(rule.get('value'), row)} ({_plain(rule.get('name', ''))})"
            commands.append(rule.get("command", commands[0]))
        lines.append(f"| {_plain(row.get('what', ''))} | {_figure(record, row)} | {told} |")
    images = f" On {_plain(results['images'])}." if "images" in results else ""
    printed = ", ".join(dict.fromkeys(map(_code, commands)))
    return "\n".join([*lines, "", f"Printed by {printed}.{images}"])


def _figure(record: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return the figure of a row of `results`: its own value, or the metric that it names."""
    metrics = record.get("metrics")
    named = metrics.get(str(row.get("metric"))) if isinstance(metrics, dict) else None
    return _value(row.get("value", named), row)


def _value(value: object, row: Mapping[str, Any]) -> str:
    if not isinstance(value, (int, float)) or not abs(value) < 1e9:
        return "not measured"
    return f"{value:.2f} {_plain(row['unit'])}" if "unit" in row else f"{100 * value:.2f} %"


def _bullets(value: Any) -> str:
    parts = value if isinstance(value, list) else [value] if value else []
    if isinstance(value, dict):
        parts = [f"{name}: {_json(each)}" for name, each in value.items()]
    return "\n".join(f"- {_plain(part)}" for part in parts)


def _row(entry: tuple[str, Any]) -> str:
    name, value = entry
    told = _code(value) if name in ("command", "recipe") else _plain(value)
    return f"| {_plain(name).replace('_', ' ')} | {told} |"
