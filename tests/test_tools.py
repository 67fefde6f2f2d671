"""The checks that are no tests of behavior: one command runs them all with the tests."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from eqrestore_lightning import __version__

ROOT = Path(__file__).parent.parent
CHECKS = {
    "ruff": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "import-linter": ["lint-imports"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_check(name):
    program, *arguments = CHECKS[name]
    found = shutil.which(program, path=Path(sys.executable).parent)
    assert found, f"{program} is not installed: pip install -e '.[dev]'"
    done = subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


SOURCES = sorted(
    path for room in ("eqrestore_lightning", "recipes") for path in (ROOT / room).rglob("*.py")
)


def _imports(path):
    """Return what a file imports: modules, and names of them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""


def _private(name):
    return name.startswith("_") and not name.startswith("__")


def _ours(module):
    first = module.split(".")[0]
    return first in ("", "eqrestore_lightning") or (ROOT / "recipes" / f"{first}.py").is_file()


def test_no_private_name_crosses_a_file():
    crossing = [
        f"{path.relative_to(ROOT)}: {name} of {module}"
        for path in SOURCES
        for module, name in _imports(path)
        if _ours(module) and _private(name)
    ]
    assert crossing == []


def test_pre_commit_runs_the_same_checks():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for entry in ("ruff check", "ruff format", "entry: mypy", "entry: lint-imports"):
        assert entry in hooks


def test_ci_runs_the_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (commands,) = re.findall(
        r"^```\n(python -m venv .*?)```", readme, flags=re.DOTALL | re.MULTILINE
    )
    assert commands.count("\n") == 3
    assert commands in script  # line by line, without further options


def test_ci_installs_the_lowest_version_of_every_runtime_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lowest = subprocess.run(
        [sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True
    ).stdout.split()
    declared = [*project["dependencies"], *extras["recipes"], *extras["hub"]]
    assert len(lowest) == len(declared)
    for text, constraint in zip(declared, lowest, strict=True):
        name, version = constraint.split("==")
        assert re.match(rf"{name}(\[\w+\])?>={re.escape(version)}(,|$)", text)
    assert not {text.split(">=")[0] for text in extras["dev"]} & {
        text.split("==")[0] for text in lowest
    }


@pytest.mark.parametrize("text", ["numpy", "numpy<3", "torch>=2.13,!=2.13.0", "torch>=2,>=2.8"])
def test_lowest_version_must_be_declared(text):
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"]
    assert lowest(["numpy>=2.1", "jsonargparse[signatures]>=4.39,<5"]) == [
        "numpy==2.1",
        "jsonargparse==4.39",
    ]
    with pytest.raises(
        ValueError, match=re.escape(f"one lower bound that it allows, but got {text!r}.")
    ):
        lowest(["numpy>=2.1", text])


def test_the_citation_is_of_this_version():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["title"] == project["name"]
    assert citation["abstract"] == project["description"]
    assert citation["license"] == project["license"]
    assert str(citation["version"]) == __version__
    (paper,) = citation["references"]
    assert "2306.16938" in paper["url"]


PAGES = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "recipes/README.md"]
PAGES += [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page):
    path = ROOT / page
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert len(links) > (5 if page.endswith("README.md") else -1)
    missing = [link for link in links if not (path.parent / link).exists()]
    assert [link for link in missing if link != "try_it.md"] == []  # made of the notebook
