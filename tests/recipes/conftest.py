"""Recipes started as their users start them, or imported; data sets made here."""

import importlib
import io
import os
import socket
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import DigitsDataModule
from eqrestore_lightning.data import ImageTensors

ROOT = Path(__file__).parent.parent.parent
RECIPES = ROOT / "recipes"
BIN = Path(sys.executable).parent
LIGHTNING = [  # the command's name may belong to lightning-sdk
    sys.executable,
    "-c",
    "from eqrestore_lightning.cli._lightning import lightning; lightning()",
]
LAUNCHERS = {
    "python": [sys.executable],
    "torchrun": [str(BIN / "torchrun"), "--nproc_per_node", "2"],
    "fabric": [str(BIN / "fabric"), "run", "--devices", "2"],
    "lightning": [*LIGHTNING, "run", "--devices", "2"],
}
NODES = {
    "torchrun": [str(BIN / "torchrun"), "--nnodes=2", "--nproc_per_node=1"],
    "fabric": [str(BIN / "fabric"), "run", "--num-nodes=2", "--devices=1"],
    "lightning": [*LIGHTNING, "run", "--num-nodes=2", "--devices=1"],
}
"""Two machines with one process each; both are this one in tests."""


def _node_command(launcher, node, port):
    """Return the command that starts one of two machines."""
    if launcher == "torchrun":
        place = [f"--node_rank={node}", "--master_addr=127.0.0.1", f"--master_port={port}"]
    else:
        place = [f"--node-rank={node}", "--main-address=127.0.0.1", f"--main-port={port}"]
    return [*NODES[launcher], *place]


def _free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="session")
def start():
    """Start a recipe as a user would; return a process, or one for each of two machines."""

    def run(recipe, *arguments, launcher="python", num_nodes=1):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WANDB_", "LT_", "TORCHELASTIC_"))
        }
        environment["OMP_NUM_THREADS"] = "1"
        commands, port = [LAUNCHERS[launcher]], _free_port()
        if num_nodes > 1:
            commands = [_node_command(launcher, node, port) for node in range(num_nodes)]
        return [
            subprocess.Popen(
                [*command, f"recipes/{recipe}.py", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]

    return run


@pytest.fixture(scope="session")
def launch(start):
    """Run a recipe to its end, and return what it printed."""

    def run(recipe, *arguments, **options):
        runs = start(recipe, *arguments, **options)
        with ThreadPoolExecutor() as pool:  # or a full pipe would stop one of them
            printed = list(pool.map(lambda each: each.communicate(), runs))
        for each, (out, errors) in zip(runs, printed, strict=True):
            assert each.returncode == 0, out[-3000:] + errors[-3000:]
        assert not any(out for out, _ in printed[1:])
        return printed[0][0]

    return run


@pytest.fixture
def load(monkeypatch):
    """Import a recipe or a helper by name; it is forgotten after the test."""
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(RECIPES)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def made_mnist(tmp_path_factory):
    """Write MNIST's four files with scikit-learn's digits: 5,300 training, 60 test images."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    digits = load_digits()
    scans = torch.from_numpy(digits.images).mul(15.9).to(torch.uint8).unsqueeze(1)
    images = torch.nn.functional.pad(TF.resize(scans, [20, 20]), (4, 4, 4, 4)).squeeze(1)
    for split, count in (("train", 5_300), ("t10k", 60)):
        chosen = torch.arange(count) % len(images)
        for name, values in (("images-idx3", images), ("labels-idx1", digits.target)):
            part = np.asarray(values)[chosen].astype(np.uint8)
            header = [0x0800 + part.ndim, *part.shape]
            content = np.array(header, dtype=">i4").tobytes() + part.tobytes()
            (folder / f"{split}-{name}-ubyte").write_bytes(content)
    return root


@pytest.fixture(scope="session")
def made_cifar10(tmp_path_factory):
    """Write an archive of 5,256 training images and 20 test images: one color for each class."""
    path = tmp_path_factory.mktemp("data") / "cifar10-made-here.tar"
    generator = torch.Generator().manual_seed(0)
    with tarfile.open(path, "w") as archive:
        for split, count in (("train", 5_256), ("test", 20)):
            for number in range(count):
                color = torch.tensor([20 * (number % 10) + 40, 250 - 20 * (number % 10), 90])
                noise = torch.randint(0, 30, (3, 32, 32), generator=generator)
                buffer = io.BytesIO()
                picture = (color[:, None, None] * 0.8 + noise).to(torch.uint8)
                TF.to_pil_image(picture).save(buffer, "bmp")
                member = tarfile.TarInfo(f"{split}/class{number % 10}/{number:05}.bmp")
                member.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(member, buffer)
    return path.parent


@pytest.fixture
def few_digits():
    """Return a class to put in place of `MNISTDataModule`: 64 of scikit-learn's digits a split."""

    class FewDigits(DigitsDataModule):
        def __init__(self, root, *, download=False, batch_size=32, **options):
            super().__init__(batch_size=min(batch_size, 32), **options)

        def load(self):
            return {
                split: ImageTensors(part.images[:64], part.labels[:64])
                for split, part in super().load().items()
            }

    return FewDigits
