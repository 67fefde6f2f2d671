"""The recipes for CIFAR-10 go all their way, on images made here."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import functional as TF
from wandb_offline import read_history

from eqrestore_lightning import RestoreTransform

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Write an archive of 5,256 training images and 20 test images: one colour for each class."""
    path = tmp_path_factory.mktemp("data") / "cifar10-made-here.tar"
    generator = torch.Generator().manual_seed(0)
    with tarfile.open(path, "w") as archive:
        for split, count in (("train", 5_256), ("test", 20)):
            for number in range(count):
                colour = torch.tensor([20 * (number % 10) + 40, 250 - 20 * (number % 10), 90])
                noise = torch.randint(0, 30, (3, 32, 32), generator=generator)
                buffer = io.BytesIO()
                picture = (colour[:, None, None] * 0.8 + noise).to(torch.uint8)
                TF.to_pil_image(picture).save(buffer, "bmp")
                member = tarfile.TarInfo(f"{split}/class{number % 10}/{number:05}.bmp")
                member.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(member, buffer)
    return path.parent


def _run(recipe, *arguments):
    environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, f"recipes/{recipe}.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_sections_share_their_stages_and_end_in_tables_pictures_and_one_run(images, tmp_path):
    sections = ["restorer", "table1", "figure3", "figure4", "zeros", "gate"]
    arguments = [f"--data={images}", f"--output={tmp_path}", f"--only={json.dumps(sections)}"]
    printed = _run("cifar10", "--scale=small", *arguments)
    for title in ("table1", "shifts found on test images", "figure4, augmented", "zeros shifts"):
        assert f"\n{title}\n\n|" in printed
    assert printed.count("Reusing") == 9  # ResNet-18 four times, the restorer five
    assert "| 0 … 20 | 420 | 0 |" in printed
    assert str(images / "cifar10-made-here.tar") in printed
    names = {path.name for path in tmp_path.iterdir()}
    assert {"resnet18", "resnet18-shifted", "restorer", "restorer-zeros", "tables.md"} <= names
    assert {"figure1.png", "figure3.png", "figure4.png", "zeros.png", "restored.gif"} <= names
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    assert RestoreTransform(tmp_path / "cifar10.safetensors")(image).shape == image.shape
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = read_history(file)
    assert history["table1/max_shift"] == [str(size) for size in range(9)]
    assert len(history["figure4, augmented/accuracy, restored"]) == 7
    pictures = {path.name.split("_")[0] for path in tmp_path.glob("wandb/*/files/media/*/*.*")}
    assert {"figure1", "figure3", "figure4", "zeros", "restored"} <= pictures


@pytest.mark.slow
def test_every_architecture_is_trained_and_measured(images, tmp_path):
    arguments = [f"--data={images}", f"--output={tmp_path}", "--only=table2"]
    printed = _run("cifar10", "--scale=small", *arguments)
    for architecture in ("vgg16", "resnet18", "densenet121", "mobilenet_v2"):
        assert printed.count(f"| {architecture} |") == 1


@pytest.mark.slow
def test_turned_images_are_restored(images, tmp_path):
    arguments = [f"--data={images}", f"--output={tmp_path}", "--images=20"]
    printed = _run("rotated_cifar10", *arguments, "--classifier_epochs=1", "--restorer_epochs=1")
    for row in ("no restorer", "restored"):
        assert f"| {row} |" in printed
    assert "\ntold the angle\n" in printed
    assert (tmp_path / "turned.png").is_file()
