"""The recipe for upright photographs, at the size of a test."""

import json

import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import RestoreTransform, UprightEstimator, load_estimator
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.motions import QuarterTurn, Turn

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:.*litlogger",
    "ignore:.*exists and is not empty",
    "ignore:.*val_dataloader",  # trained for a time, without validation
)


def _panorama(tmp_path):
    """A sky that is brightest straight ahead and ground, 128 × 64."""
    down = torch.linspace(0, 1, 64).reshape(1, 64, 1)
    right = torch.cos(torch.arange(128) * (2 * torch.pi / 128) - torch.pi).reshape(1, 1, 128)
    pixels = 255 * ((1 - down) * 0.5 + 0.2 + 0.25 * right).expand(3, 64, 128)
    path = tmp_path / "panorama.png"
    TF.to_pil_image(pixels.round().byte()).save(path)
    return path


def test_views_of_panoramas_are_upright_and_look_all_around(load, tmp_path):
    data = load("_upright_data")
    views = data.pictures([_panorama(tmp_path)], [_panorama(tmp_path)], 40, 0, 32)[20:].float()
    assert views.shape == (20, 3, 32, 32)
    rows = views.mean((1, 3))
    assert (rows.diff(dim=1) <= 1).all()  # the sky is up
    assert views.mean((1, 2, 3)).max() - views.mean((1, 2, 3)).min() > 40
    edges = (views[..., -1].mean((1, 2)) - views[..., 0].mean((1, 2))).sign()
    assert edges.unique().tolist() == [-1, 1]  # to the left and to the right of the sun


def test_batches_are_images_of_several_sizes(load):
    data = load("_upright_data")
    small = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    large = torch.randint(0, 256, (20, 3, 88, 88), dtype=torch.uint8)
    batches = iter(data.UprightBatches(small, large, 0))
    sizes = set()
    for _ in range(40):
        x = next(batches)
        assert x.dtype == torch.float32
        assert x.shape[2] == x.shape[3]
        assert 0 <= x.min() <= x.max() <= 255
        sizes.add(x.shape[3])
    assert sizes == {32, 40, 48, 64}


def test_rules_find_the_brighter_side(load):
    tables = load("_upright_tables")
    ramp = torch.linspace(200, 0, 24).reshape(1, 1, 24, 1).expand(30, 3, 24, 24)
    images = (ramp + torch.randint(0, 40, (30, 3, 24, 24))).byte()
    rule = tables.quarter_rules(images.float())["rule: brighter side up"]
    error = tables.found_right(rule, images, QuarterTurn())
    assert error.count_nonzero() == 0
    assert torch.equal(rule(torch.rot90(images, 3, (2, 3))), images)


def test_told_the_angle_turns_there_and_back(load):
    tables = load("_upright_tables")
    images = torch.zeros(40, 1, 32, 32, dtype=torch.uint8)
    images[::2, :, 12:20, 12:20] = 255

    class Middle(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot((x[:, 0, 14:18, 14:18].mean((1, 2)) > 0.5).long())

    labels = Middle()(images.float() / 255).argmax(1)
    assert tables.told(Middle(), ImageTensors(images, labels), Turn(), seed=0) == 100


def test_the_harmless_margin_is_the_least_that_turns_so_few(load, monkeypatch):
    tables = load("_upright_tables")
    monkeypatch.setattr(tables, "HARM", 0.1)
    torch.manual_seed(0)
    estimator = UprightEstimator(3, scorer_options={"channels": [4]}).eval()
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    margin = tables.harmless_margin(estimator, images)
    turned = RestoreTransform(estimator, min_margin=margin).find(images).motion["quarters"] != 0
    assert turned.sum() <= 5
    less = RestoreTransform(estimator, min_margin=margin - 2e-6).find(images).motion["quarters"]
    assert less.count_nonzero() > turned.sum()


@pytest.mark.slow
@pytest.mark.parametrize("angles", [4, 24])
def test_the_recipe_goes_all_its_way(load, made_cifar10, tmp_path, monkeypatch, angles):
    made = load("upright")
    panorama = _panorama(tmp_path)
    Image.open(panorama).resize((300, 300)).save(tmp_path / "photograph.png")
    monkeypatch.setattr(
        made, "packaged_photographs", lambda names, folder, scenes: [tmp_path / "photograph.png"]
    )
    output = tmp_path / "out"
    made.main(made_cifar10, output=output, angles=angles, minutes=0.05, num_images=4)
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    tables = {"found", "votes", "what a prior saves and costs", "invariance"}
    tables |= (
        {"told the angle", "corners", "accuracy against angle"} if angles > 4 else {"accuracy"}
    )
    assert set(results["tables"]) == tables
    assert {row["restored differently"] for row in results["invariance"]} == {0}
    assert {row["scored differently"] for row in results.get("corners", [])} <= {0}
    assert len(results["what a prior saves and costs"]) == 8
    assert (output / "prior.png").is_file()
    assert (output / "turned.png").is_file()
    name = "photo-upright" if angles == 4 else "photo-turn"
    loaded = load_estimator(output / f"{name}.safetensors")
    assert loaded.num_angles == angles
    weights = loaded.scorer.head.weight
    assert_close(weights, weights.half().float(), rtol=0, atol=0)
