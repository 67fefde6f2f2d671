"""The commands that README.md and the documentation show run: the first line of each, in order."""

import re
from pathlib import Path

import pytest
from fuzz.tools import save_checkpoint
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import ClassifierModule, cli, load_estimator
from eqrestore_lightning.cli._demo_view import samples

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    line.split("#")[0].split()
    for page in PAGES
    for line in re.findall(r"^eqrestore .*$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
]
ELSEWHERE = ("demo", "export")  # tests/cli opens the page in a browser, and runs the graph
LONG = {"fit": ["--minutes", "0.05"]}  # trained for less, and no better


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make what the reader has: photos, shifted ones, and a classifier."""
    monkeypatch.chdir(tmp_path)
    for name, picture in samples(load_estimator("photo")).items():
        image = TF.resize(TF.pil_to_tensor(picture), [200])
        for number in range(16):
            crop = TF.crop(image, 8 * number, 5 * number, 64, 64)
            for place, shown in {
                f"photos/{name}": crop,
                "shifted": crop.roll((9, 40), (1, 2)),
            }.items():
                Path(place).mkdir(parents=True, exist_ok=True)
                TF.to_pil_image(shown).save(f"{place}/{name}{number:02}.png")
    save_checkpoint(ClassifierModule(3, 5), "classifier.ckpt")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # as on the command line
def test_the_commands_run(folder, capsys):
    firsts = {words[1]: words[1:] for words in reversed(COMMANDS)}
    assert {"fit", "restore", "evaluate", *ELSEWHERE} <= set(firsts) <= set(cli._COMMANDS)
    for command in reversed(firsts):
        if command not in ELSEWHERE:
            cli.eqrestore(firsts[command] + LONG.get(command, []))
    printed = capsys.readouterr().out
    for promised in ("Restored 64 images", "accuracy, restored"):
        assert promised in printed
    for file in ("mine.safetensors", "restored/shifts.csv"):
        assert (folder / file).is_file()
