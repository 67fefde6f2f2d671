"""The recipes for CIFAR-10, on images made here."""

import json

import pytest
import torch
from wandb_offline import read_history

from eqrestore_lightning import RestoreTransform

RULES = (
    "difference",
    "second difference",
    "relative difference",
    "relative second difference",
)


@pytest.mark.slow
def test_sections_share_their_stages_and_end_in_tables_pictures_and_one_run(
    launch, made_cifar10, tmp_path
):
    sections = ["restorer", "table1", "figure3", "figure4", "zeros", "gate", "cost"]
    arguments = [
        f"--data={made_cifar10}",
        f"--output={tmp_path}",
        f"--only={json.dumps(sections)}",
    ]
    printed = launch("cifar10", "--scale=small", *arguments)
    for title in ("table1", "shifts found on test images", "figure4", "zeros shifts", "cost"):
        assert f"\n{title}\n\n|" in printed
    assert printed.count("Reusing") == 10  # ResNet-18 four times, the restorer six
    assert "| 0 … 20 | 420 | 0 |" in printed
    assert str(made_cifar10 / "cifar10-made-here.tar") in printed
    names = {path.name for path in tmp_path.iterdir()}
    assert {"resnet18", "resnet18-shifted", "restorer", "restorer-zeros", "tables.md"} <= names
    assert {"figure1.png", "figure3.png", "figure4.png", "zeros.png", "restored.gif"} <= names
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    assert RestoreTransform(tmp_path / "cifar10.safetensors")(image).shape == image.shape
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = read_history(file)
    assert len(history["table1/largest shift (pixels)"]) == 9
    assert len(history["figure4/accuracy, augmented, restored"]) == 7
    pictures = {path.name.partition(".")[0] for path in tmp_path.glob("wandb/*/files/media/*/*.*")}
    assert {"figure1", "figure3", "figure4", "zeros", "restored"} <= pictures


@pytest.mark.slow
def test_every_architecture_is_trained_and_measured(launch, made_cifar10, tmp_path):
    arguments = [f"--data={made_cifar10}", f"--output={tmp_path}", "--only=table2"]
    printed = launch("cifar10", "--scale=small", *arguments)
    for architecture in ("vgg16", "resnet18", "densenet121", "mobilenet_v2"):
        assert printed.count(f"| {architecture} |") == 1


@pytest.mark.slow
def test_unpadded_images_are_compared_with_the_rules_for_seams(launch, made_cifar10, tmp_path):
    arguments = [f"--data={made_cifar10}", f"--output={tmp_path}", "--epochs=1"]
    tasks = json.dumps(["cifar10-unpadded", "cifar10-crops"])
    printed = launch("no_rule", *arguments, "--classifier_epochs=1", f"--only={tasks}")
    for rule in RULES:
        assert printed.count(f"| rule: {rule} |") == 2  # shifts found, of two tasks
        assert printed.count(f"| accuracy, rule: {rule} |") == 2
    assert "cifar10-crops, crops that move" in printed
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert len(read_history(file)["cifar10-unpadded, circular shifts/accuracy, restored"]) == 4


@pytest.mark.slow
def test_photographs_without_border_are_restored(mnist_root, launch, tmp_path):
    arguments = [f"--data={mnist_root}", f"--output={tmp_path}", "--epochs=1", "--num_images=500"]
    printed = launch("no_rule", *arguments, "--classifier_epochs=1")
    for task in ("cifar10-unpadded", "cifar10-crops", "mnist-noise", "mnist-clutter"):
        table = printed.partition(f"{task}, shifts found on test images\n\n")[2]
        rows = table.partition("\n\n")[0].splitlines()[2:]
        exact = {row.split(" | ")[0][2:]: float(row.split(" | ")[1]) for row in rows}
        learned = next(share for name, share in exact.items() if name.startswith("learned"))
        assert learned == max(exact.values())
