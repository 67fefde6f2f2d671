from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "try_it.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter
def test_the_notebook_runs_and_says_what_it_promises(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    notebook = nbformat.read(NOTEBOOK, 4)
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    _, found, picture, same, table = [
        cell.outputs for cell in notebook.cells if cell.cell_type == "code"
    ]
    assert found[0].text.startswith("[120, -90] margin ")
    assert "image/png" in picture[0].data
    assert same[0].text == "1 restored image\n"
    printed = "".join(output.get("text", "") for output in table)
    (restored,) = [line for line in printed.splitlines() if line.startswith("| accuracy, restored")]
    shares = [float(cell) for cell in restored.strip("|").split("|")[1:]]
    assert len(set(shares)) == 1
    assert shares[0] > 95
