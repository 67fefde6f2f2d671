"""What the site shows of files that lie elsewhere: README.md, recipes, weights, the notebook.

`<!-- README: Heading -->` on a page stands for what README.md has under that heading. Recipes keep
their paths, so that the links in it hold.
"""

import json
import re
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from safetensors.numpy import load_file

ROOT = Path(__file__).parent.parent
INCLUDE = re.compile(r"^<!-- README: (.*) -->$", flags=re.MULTILINE)
WEIGHTS = ROOT / "eqrestore_lightning" / "weights" / "mnist.safetensors"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files that lie outside docs/, and those that are made of others."""
    for path in sorted((ROOT / "recipes").iterdir()):
        if path.suffix in (".md", ".png", ".gif", ".py"):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    weights = f"const MNIST_WEIGHTS = {json.dumps(weights_of_the_figure())};\n"
    files.append(File.generated(config, "assets/weights.js", content=weights))
    notebook = json.loads((ROOT / "docs" / "try_it.ipynb").read_text(encoding="utf-8"))
    files.append(File.generated(config, "try_it.md", content=notebook_page(notebook)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put sections of README.md where a page names them; their links lead to pages of the site."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = INCLUDE.sub(lambda match: section(readme, match[1]), markdown)
    shown = shown.replace("](docs/", "](").replace("](../docs/", "](../")  # pages lie at the top
    shown = shown.replace("](../SECURITY.md", "](SECURITY.md")
    shown = shown.replace("](../../recipes/", "](../recipes/")  # from results/
    if shown == markdown:
        return markdown
    for anchor, page in pages_by_anchor().items():
        shown = shown.replace(f"](#{anchor})", f"]({page})")
    return shown


def section(text: str, heading: str) -> str:
    r"""Return what stands between a heading and the next one.

    Raises:
        ValueError: If there is no such heading.

    >>> section("## A\nshort\n### B\nlong\n", "A")
    'short'
    """
    found = re.search(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)
    if found is None:
        raise ValueError(f"Expected README.md to have the heading {heading!r}, but found none.")
    return re.split(r"^##+ ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()


def pages_by_anchor() -> dict[str, str]:
    """Return on which page each section of README.md stands, by its anchor there."""
    return {
        slugify(heading, "-"): path.name
        for path in sorted((ROOT / "docs").glob("*.md"))
        for heading in INCLUDE.findall(path.read_text(encoding="utf-8"))
    }


def weights_of_the_figure() -> dict[str, Any]:
    """Return the bundled `mnist`: six separable filters, their constants, and how to add them."""
    tensors = load_file(WEIGHTS)
    return {
        "down": tensors["layers.0.weight_0"].squeeze(1).tolist(),
        "right": tensors["layers.0.weight_1"].squeeze(1).tolist(),
        "bias": tensors["layers.0.bias"].tolist(),
        "last": tensors["layers.1.weight"].ravel().tolist(),
    }


def notebook_page(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: text as it is, code in fences."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"
