"""Show the doctests of docstrings as code."""

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^( *)>>> (?:.*\n?)(?:(?! *$).*\n?)*", flags=re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Fence each run of lines that begins with `>>>` and ends before an empty line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = _DOCTEST.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    indent, text = match[1], match[0].rstrip()
    return f"{indent}```pycon\n{text}\n{indent}```\n"
