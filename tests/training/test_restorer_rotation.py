import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from eqrestore_lightning import (
    CopiesEstimator,
    Product,
    QuarterTurn,
    RestorerModule,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    Shift,
    Turn,
    load_estimator,
    rotate,
)
from eqrestore_lightning.functional._errors import circular_error, motion_distance
from eqrestore_lightning.training._callbacks import restored_image_grid

ROTATION = {"num_radii": 6, "num_angles": 24, "hidden_channels": [8], "kernel_size": ["full", 1]}


def _wedges(count=96):
    """Images with a bright wedge to the right, slightly up: they show how they stand."""
    rows, columns = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(16) - 7.5, indexing="ij")
    direction_rad = torch.atan2(-rows, columns)
    width_rad = 0.3 + 0.2 * torch.rand(count, 1, 1)
    inside = (rows.square() + columns.square()).sqrt() < 7
    wedge = torch.exp(-(((direction_rad - 0.3) / width_rad) ** 2)) * inside
    return (wedge + 0.1 * torch.rand(count, 16, 16)).unsqueeze(1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_rotations_are_learnt_and_restored(tmp_path, precision, build_trainer):
    module = RestorerModule(RotationEstimator(1, (16, 16), **ROTATION, bias=True))
    loader = DataLoader(_wedges(), batch_size=32)
    trainer = build_trainer(max_epochs=25, precision=precision)
    trainer.fit(module, loader, loader)
    assert set(trainer.callback_metrics) == {
        "train/loss",
        "train/constant_scores",
        "val/loss",
        "val/angle_accuracy_10deg",
        "val/angle_distance",
    }
    assert trainer.callback_metrics["val/angle_accuracy_10deg"] > 0.9
    restore = RestoreTransform(module.estimator)
    x = _wedges(20)
    for angle in (37.0, -110.0):
        found = restore.find(rotate(x, torch.full((20,), angle))).motion["angle"]
        assert circular_error(found, torch.full((20,), angle), (360,)).median() < 4
    with Image.open(tmp_path / "restored.png") as grid:
        assert grid.size == (5 * (8 * 18 + 2) + 80, 5 * (3 * 18 + 2))


def test_every_image_is_turned_by_its_own_angle():
    module = RestorerModule(RotationEstimator(1, (16, 16), **ROTATION, fill="border"), seed=3)
    x = _wedges(40)
    moved, element = module._moved(x, 7)
    angle = element["angle"]
    assert angle.shape == (40,)
    assert angle.unique().numel() == 40
    assert torch.equal(moved, rotate(x, angle, fill="border"))
    assert torch.equal(module._moved(x, 7)[1]["angle"], angle)
    assert not torch.equal(module._moved(x, 8)[1]["angle"], angle)


def test_the_loss_shares_a_target_between_grid_angles():
    module = RestorerModule(RotationEstimator(1, (16, 16), **ROTATION))
    scores = torch.full((1, 24), -50.0)
    scores[0, 2:4] = torch.tensor([0.75, 0.25]).log()  # 33.75° is a quarter of the way
    target = {"angle": torch.tensor([33.75])}
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log())
    assert_close(module.estimator.loss(scores, target), entropy)
    assert module.estimator.loss(scores, {"angle": torch.tensor([30.0])}) < entropy
    assert module.estimator.loss(scores, {"angle": torch.tensor([60.0])}) > 20


def test_quarter_turns_are_learnt_and_restored(tmp_path, build_trainer):
    estimator = CopiesEstimator(
        1, motion=QuarterTurn(mirrors=True), scorer_options={"channels": [16, 32]}
    )
    module = RestorerModule(estimator, learning_rate=1e-2)
    loader = DataLoader(_wedges(), batch_size=32)
    trainer = build_trainer(max_epochs=15)
    trainer.fit(module, loader, loader)
    for name in ("mirrored", "quarters"):
        assert trainer.callback_metrics[f"val/{name}_accuracy"] > 0.9
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    restore = RestoreTransform(load_estimator(tmp_path / "e.ckpt").eval())
    x = _wedges(20)
    moved = torch.rot90(x.flip(3), 1, (2, 3))
    assert (restore(moved) == x).flatten(1).all(1).double().mean() > 0.9
    assert torch.equal(restore(moved), restore(x))


@pytest.mark.parametrize("fill", ["circular", "zeros"])
def test_shifts_and_rotations_are_learnt_together(tmp_path, fill, build_trainer):
    options = {"hidden_channels": [4], "kernel_size": ["full", 1], "bias": True}
    estimator = RotoTranslationEstimator(1, (16, 16), translation=options, rotation=ROTATION)
    shift = Shift(max_shift=2 if fill == "zeros" else 0, fill=fill)
    module = RestorerModule(estimator, motion=Product(Turn(), shift))
    loader = DataLoader(_wedges(), batch_size=32)
    trainer = build_trainer(max_epochs=40)
    trainer.fit(module, loader, loader)
    assert set(trainer.callback_metrics) == {
        "train/loss",
        "train/constant_scores",
        "val/loss",
        "val/shift_accuracy",
        "val/shift_accuracy_1px",
        "val/shift_distance",
        "val/angle_accuracy_10deg",
        "val/angle_distance",
    }
    assert trainer.callback_metrics["val/shift_accuracy_1px"] > 0.9
    assert trainer.callback_metrics["val/angle_accuracy_10deg"] > 0.8
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    restore = RestoreTransform(load_estimator(tmp_path / "e.ckpt"))
    x = _wedges(20)
    angle = torch.full((20,), -70.0)
    moved = rotate(x, angle).roll((3, -5), (2, 3))
    found = restore.find(moved).motion
    shift = torch.tensor([3, -5]).expand(20, 2)
    assert motion_distance(found["shift"], shift, (16, 16)).median() < 2
    assert circular_error(found["angle"], angle, (360,)).median() < 5
    (prediction,) = trainer.predict(module, DataLoader(moved, batch_size=20))
    assert torch.equal(prediction["shift"], found["shift"])
    assert torch.equal(prediction["angle"], found["angle"])


def test_the_grid_shows_turned_images():
    images = _wedges(4)
    grid = restored_image_grid(RotationEstimator(1, (16, 16), **ROTATION), images)
    upper = grid[0, 2:18, 2:18]
    assert_close(upper, images[0, 0])
    assert not torch.equal(grid[0, 20:36, 2:18], upper)
