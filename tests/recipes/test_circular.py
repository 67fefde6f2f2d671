"""Recipes for content that wraps around: panoramas and contours."""

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import MNISTDataModule


def test_all_yaws_of_a_panorama_are_restored_to_the_same_image(launch, tmp_path):
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "scenes").mkdir()
    for name in ("beach", "forest"):
        scene = torch.randint(0, 256, (3, 16, 288), dtype=torch.uint8, generator=generator)
        TF.to_pil_image(scene).save(tmp_path / "scenes" / f"{name}.png")
    arguments = [f"--data={tmp_path / 'scenes'}", f"--output={tmp_path}", "--epochs=1"]
    printed = launch("panoramas", *arguments, "--yaws=9")
    lines = [line for line in printed.splitlines() if line.startswith(("| beach", "| forest"))]
    rows = [line.split(" | ") for line in lines]
    assert len(rows) == 2
    assert [row[2:] for row in rows] == [["9", "0 |"]] * 2
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1


def test_the_bands_of_a_panorama_follow_its_yaw_exactly(load):
    panoramas = load("panoramas")
    scene = torch.randint(0, 256, (3, 48, 70), dtype=torch.uint8)
    assert torch.equal(panoramas.bands(scene.roll(11, 2)), panoramas.bands(scene).roll(11, 2))
    with pytest.raises(ValueError, match="Expected a height that is a multiple of 16, but got 47"):
        panoramas.bands(scene[:, :47])


def test_contours_start_where_they_were_traced(load, made_mnist):
    contours = load("contours")
    digits = MNISTDataModule(made_mnist).dataset("test")
    signals = contours.contours(digits, 40)
    assert signals.images.shape[1:] == (1, contours.LENGTH)
    assert (signals.images.amax((1, 2)) == 255).all()
    started = contours.start_farthest(signals.images.roll(5, 2))
    assert (started[:, 0, 0] == 255).all()


@pytest.mark.slow
def test_contours_are_restored_in_front_of_a_classifier(launch, made_mnist, tmp_path):
    arguments = [f"--data={made_mnist}", f"--output={tmp_path}", "--images=300", "--epochs=1"]
    printed = launch("contours", *arguments, "--test_images=40")
    assert "| accuracy, restored |" in printed
    assert (tmp_path / "accuracy.png").is_file()
