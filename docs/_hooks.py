"""What the site shows of files that lie elsewhere: recipes, weights, the notebook.

Pages link to each other as they lie in the repository, so that links hold there, too.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from safetensors.numpy import load_file

ROOT = Path(__file__).parent.parent
OUTSIDE = re.compile(r"\]\(\.\./(?=recipes/|[A-Z]+\.)")  # of docs/, as links on GitHub have it
WEIGHTS = ROOT / "eqrestore_lightning" / "weights" / "mnist.safetensors"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files that lie outside docs/, and those that are made of others."""
    for path in sorted((ROOT / "recipes").iterdir()):
        if path.suffix in (".md", ".png", ".gif", ".py"):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "start.md", abs_src_path=str(ROOT / "README.md")))
    weights = f"const MNIST_WEIGHTS = {json.dumps(weights_of_the_figure())};\n"
    files.append(File.generated(config, "assets/weights.js", content=weights))
    notebook = json.loads((ROOT / "docs" / "try_it.ipynb").read_text(encoding="utf-8"))
    files.append(File.generated(config, "try_it.md", content=notebook_page(notebook)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links to where files lie on the site: all of docs/ at the top, recipes/ beside it."""
    if page.file.src_uri.startswith("recipes/"):
        return markdown.replace("](../docs/", "](../")
    if "/" in page.file.src_uri:
        return markdown.replace("](../../recipes/", "](../recipes/")
    shown = OUTSIDE.sub("](", markdown.replace("](docs/", "]("))
    return shown.replace("](README.md", "](start.md").replace("](try_it.ipynb", "](try_it.md")


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
    """Return a notebook as Markdown: code, and what it printed, stand in fences."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [_shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    """Return an output of a cell as Markdown."""
    picture = output.get("data", {}).get("image/png")
    if picture is not None:
        return f"![What the cell draws](data:image/png;base64,{picture.strip()})"
    return f"```text\n{''.join(output.get('text', ())).rstrip()}\n```"
