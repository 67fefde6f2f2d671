"""The examples of README.md and of the documentation run, and say what their comments promise."""

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from torchvision.models import ResNet18_Weights, resnet18

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


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Make what the reader has: photographs in folders by class, and torchvision's weights."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, size in (("281", (260, 300)), ("7", (310, 270))):
        Path("photographs", name).mkdir(parents=True)
        pixels = random.integers(0, 256, (*size, 3), "uint8")
        PIL.Image.fromarray(pixels).save(f"photographs/{name}/0.png")
    state = resnet18().state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: state)


def _needs_more(block):
    return any(word in block for word in NEEDS_MORE)


def test_most_examples_stand_alone():
    alone = [param.id for param in BLOCKS if not _needs_more(*param.values)]
    assert len(alone) > 0.7 * len(BLOCKS)
    assert any(name.startswith("README") for name in alone)
    assert any(name.startswith("docs") for name in alone)


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_run_and_print_what_their_comments_say(block, capsys, photographs):
    if _needs_more(block):
        compile(block, "example", "exec")
        return
    exec(block, {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
    if "verdict" in block:  # which has several lines
        printed = ["".join(printed)]
    assert len(printed) == len(promised)
    for line, promise in zip(printed, promised, strict=True):
        for literal in re.findall(r"tensor\(.*?\)|torch\.Size\(.*?\)|True|False|^\d+", promise):
            assert literal in line
