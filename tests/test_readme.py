"""The README's examples run, and say what their comments promise."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
NEEDS_MORE = ("outputs/", "your_loader", "your_classifier")  # trained or written by the reader


def test_some_examples_stand_alone():
    assert len(BLOCKS) > 5
    assert sum(not any(word in block for word in NEEDS_MORE) for block in BLOCKS) > 3


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_examples_run_and_print_what_their_comments_say(number, capsys):
    block = BLOCKS[number]
    if any(word in block for word in NEEDS_MORE):
        compile(block, "README.md", "exec")
        return
    exec(block, {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
    assert len(printed) == len(promised)
    for line, promise in zip(printed, promised, strict=True):
        for literal in re.findall(r"tensor\(.*?\)|torch\.Size\(.*?\)|True|False|^\d+", promise):
            assert literal in line
