"""The examples of README.md and of the documentation run, and say what their comments promise."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    )
]
NEEDS_MORE = ("outputs/", "your_loader", "your_classifier")  # trained or written by the reader


def _needs_more(block):
    return any(word in block for word in NEEDS_MORE)


def test_most_examples_stand_alone():
    alone = [param.id for param in BLOCKS if not _needs_more(*param.values)]
    assert len(alone) > 0.7 * len(BLOCKS)
    assert any(name.startswith("README") for name in alone)
    assert any(name.startswith("docs") for name in alone)


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_run_and_print_what_their_comments_say(block, capsys, tmp_path, monkeypatch):
    if _needs_more(block):
        compile(block, "example", "exec")
        return
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
    assert len(printed) == len(promised)
    for line, promise in zip(printed, promised, strict=True):
        for literal in re.findall(r"tensor\(.*?\)|torch\.Size\(.*?\)|True|False|^\d+", promise):
            assert literal in line
