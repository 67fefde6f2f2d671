"""Tables in Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Return rows, at least one, with the same keys as a Markdown table.

    Whole numbers are grouped by thousands, others are given to two places, `None` leaves a cell
    empty, and text stands as it is, in one line. No newline ends the table.

    >>> print(markdown_table([{"images": "a|b", "of": 10_000, "right, %": 97.125, "told": None}]))
    | images | of | right, % | told |
    |---|---|---|---|
    | a\|b | 10,000 | 97.12 |  |
    """
    header = [*rows[0]]
    lines = [header, *([_cell(row[key]) for key in header] for row in rows)]
    texts = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
    return "\n".join([texts[0], "|---" * len(header) + "|", *texts[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 0.005 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else re.sub(r"\s+", " ", str(value))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
