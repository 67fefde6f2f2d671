"""Show the doctests of docstrings as code."""

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^( *)>>> (?:.*\n?)(?:(?! *$).*\n?)*", flags=re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Fence the doctests of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Fence each run of lines that begins with `>>>` and ends before an empty line."""
    return _DOCTEST.sub(
        lambda match: f"{match[1]}```pycon\n{match[0].rstrip()}\n{match[1]}```\n", text
    )
