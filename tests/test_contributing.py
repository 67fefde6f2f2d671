"""What CONTRIBUTING.md tells to write runs, and fits into the package."""

import doctest
import re
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
import torch

from eqrestore_lightning import build_preset
from eqrestore_lightning.evaluation._measures import _MEASURES
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.motions._base import build_motion
from eqrestore_lightning.nn._presets import _PRESETS

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def written():
    """Run all blocks, and leave no trace in the registries."""
    registries = (Motion.kinds, _PRESETS, _MEASURES)
    with ExitStack() as stack:
        for registry in registries:
            stack.enter_context(mock.patch.dict(registry))
        names = {"__name__": "contributed"}
        for block in BLOCKS:
            exec(block, names)
        yield names


def test_the_examples_of_the_docstrings_hold(written):
    for name in ("Transpose", "CornersDataModule"):
        (example,) = doctest.DocTestFinder(recurse=False).find(written[name], name, globs=written)
        result = doctest.DocTestRunner().run(example)
        assert result.attempted
        assert not result.failed


def test_they_fit_into_the_package(written):
    motion = build_motion({"kind": "Transpose"})
    x = torch.rand(5, 1, 6, 6)
    element = motion.draw(5, (6, 6))
    assert torch.equal(motion.undo(motion.apply(x, element), element), x)
    assert build_preset("narrow", 1, (8, 9)).in_channels == 1
    assert "confidence" in _MEASURES
    written["test_corners"]()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?<=[ `])tests/[\w/]+(?:\.\w+)?", TEXT))))
def test_the_files_it_names_are_there(path):
    there = (Path(__file__).parent.parent / path).exists()
    assert there or path == "tests/data/test_corners.py"  # which the reader writes
