"""What the pages of the documentation say is true: figures, commands and names."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import eqrestore_lightning

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page.read_text("utf-8") for page in DOCS.rglob("*.md")}
RESULTS = [ROOT / "recipes" / "README.md", DOCS / "results.md", *DOCS.glob("results/*.md")]
MEASURED = "".join(page.read_text("utf-8") for page in RESULTS)
SHOWN = {**PAGES, "README.md": (ROOT / "README.md").read_text("utf-8")}


def test_figures_are_those_of_the_tables():
    figures = {figure for page in SHOWN.values() for figure in re.findall(r"[\d.,]*\d(?= %)", page)}
    assert len(figures) > 5
    assert {
        figure for figure in figures if not re.search(rf"(?<![\d.]){figure}\b", MEASURED)
    } == set()


def test_commands_name_recipes_tests_and_options_that_are_there():
    commands = {
        command
        for name, page in SHOWN.items()
        if name != "launchers.md" and not name.startswith("results/")  # also of recipes before
        for command in re.findall(r"(?:lightning run|python) [^`\n]*", page)
        if re.search(r"(recipes|tests)/", command)
    }
    assert len(commands) > 10
    for command in commands:
        before, path, options = re.fullmatch(r"(.*?)((?:recipes|tests)/\S+)(.*)", command).groups()
        assert (ROOT / path).exists(), command
        if "pytest" not in before:
            names = set(re.findall(r"--(\w+)", options)) - {"publish"}  # which all of them have
            recipe = (ROOT / path).read_text("utf-8")
            assert [name for name in names if f"    {name}: " not in recipe] == [], command


def test_the_gallery_shows_every_picture():
    pictures = {
        path.name for path in (ROOT / "recipes").iterdir() if path.suffix in (".png", ".gif")
    }
    assert len(pictures) > 4
    assert set(re.findall(r"\]\(../recipes/(.*?)\)", PAGES["gallery.md"])) == pictures


def test_the_interface_lists_every_room_and_every_name():
    listed = set(re.findall(r"`(\w+)`", PAGES["api/index.md"]))
    package = Path(eqrestore_lightning.__file__).parent
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} - {
        "cli",
        "files",
    }  # which users do not import
    assert rooms | set(eqrestore_lightning.__all__) <= listed
    assert {f"api/{room}.md" for room in rooms} <= set(PAGES)


def test_the_notebook_is_shown_with_its_outputs(hooks):
    notebook = json.loads((DOCS / "try_it.ipynb").read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [len(cell["outputs"]) for cell in code] == [0, 1, 1, 1, 1]
    shown = hooks.notebook_page(notebook)
    assert "```text\n[120, -90] margin " in shown
    assert "](data:image/png;base64," in shown


@pytest.fixture
def hooks():
    pytest.importorskip("mkdocs", reason="needs mkdocs: pip install -e '.[docs]'")
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_to_where_files_lie_on_the_site(hooks):
    def shown(uri, text):
        page = SimpleNamespace(file=SimpleNamespace(src_uri=uri))
        return hooks.on_page_markdown(text, page=page)

    assert shown("a.md", "[b](b.md#c) [r](../recipes/x.py)") == "[b](b.md#c) [r](recipes/x.py)"
    assert shown("a.md", "[s](../SECURITY.md)") == "[s](SECURITY.md)"
    assert shown("recipes/README.md", "[b](../docs/b.md)") == "[b](../b.md)"
    assert shown("CONTRIBUTING.md", "[b](docs/b.md)") == "[b](b.md)"
    assert shown("a.md", "[b](../README.md#b)") == "[b](start.md#b)"


def test_doctests_are_shown_as_code():
    pytest.importorskip("griffe", reason="needs mkdocstrings: pip install -e '.[docs]'")
    spec = importlib.util.spec_from_file_location("doctests", DOCS / "_doctests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "Add.\n\n>>> 1 + 1\n2\n>>> [\n...     3\n... ]\n[3]\n\nMore.\n"
    shown = module.fenced(text)
    assert shown == text.replace(">>> 1", "```pycon\n>>> 1").replace("[3]\n", "[3]\n```\n")
    assert module.fenced("No > > > here.") == "No > > > here."


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs mkdocs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "api" / "transforms.html").read_text("utf-8").count("doc-class") > 3
