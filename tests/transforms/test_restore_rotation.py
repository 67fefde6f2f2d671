import re

import pytest
import torch
from torch.testing import assert_close
from torchvision import tv_tensors

from eqrestore_lightning.functional import circular_shift, random_shift, rotate
from eqrestore_lightning.nn import (
    QuarterTurnEstimator,
    RotationEstimator,
    RotoTranslationEstimator,
)
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights import save_estimator

ROTATION = {"num_radii": 6, "num_angles": 24, "hidden_channels": [4], "kernel_size": [5, 1]}
TRANSLATION = {"hidden_channels": [2], "kernel_size": 3}
KINDS = {
    "rotation": lambda: RotationEstimator(3, (16, 16), **ROTATION),
    "quarter turns": lambda: QuarterTurnEstimator(3, (16, 16), mirrors=True, **TRANSLATION),
    "both": lambda: RotoTranslationEstimator(
        3, (16, 16), translation=TRANSLATION, rotation=ROTATION
    ),
}


@pytest.fixture(params=KINDS)
def estimator(request):
    return KINDS[request.param]()


def _images(*batch, dtype=torch.uint8):
    x = torch.randint(0, 256, (*batch, 3, 16, 16), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x.to(dtype) / 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_the_original_is_moved_back_once(estimator, dtype):
    x = _images(4, dtype=dtype)
    before = x.clone()
    restore = RestoreTransform(estimator)
    restored = restore(x)
    assert restored.dtype == dtype
    assert torch.equal(restored, estimator.motion.undo(x, restore.find(x).motion))
    assert torch.equal(x, before)


def test_the_estimate_of_a_rotation_is_degrees():
    restore = RestoreTransform(KINDS["rotation"]())
    x = _images(2, 3)
    found = restore.find(x, scores=True)
    angle = found.motion["angle"]
    assert angle.shape == (2, 3)
    assert angle.dtype == torch.float64
    assert found.scores.shape == (2, 3, 24)
    expected = rotate(x.flatten(0, 1), -angle.flatten())
    assert torch.equal(restore(x).flatten(0, 1), expected)


def test_quarter_turns_are_restored_to_the_same_image():
    for kind in ("rotation", "quarter turns"):
        restore = RestoreTransform(KINDS[kind]())
        x = _images(10)
        for quarters in range(4):
            assert torch.equal(restore(torch.rot90(x, quarters, (2, 3))), restore(x))


def test_shifts_are_restored_to_the_same_image():
    for kind in ("both", "quarter turns"):
        restore = RestoreTransform(KINDS[kind]())
        x = _images(10)
        assert torch.equal(restore(circular_shift(x, random_shift(10, 9))), restore(x))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_is_restored_as_if_alone(estimator, dtype):
    restore = RestoreTransform(estimator)
    x = _images(13, dtype=dtype)
    assert torch.equal(torch.stack([restore(image) for image in x]), restore(x))
    strided = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(restore(strided), restore(x))


def test_images_below_the_margin_are_left_as_they_are(estimator):
    x = _images(40)
    margin = RestoreTransform(estimator).find(x).margin
    gate = RestoreTransform(estimator, min_margin=float(margin.median()))
    trusted = gate.find(x).trusted
    assert 10 < trusted.sum() < 30
    assert torch.equal(gate(x)[~trusted], x[~trusted])
    assert torch.equal(gate(x)[trusted], RestoreTransform(estimator)(x)[trusted])


def test_corners_are_filled_as_one_chooses():
    estimator = KINDS["rotation"]()
    x = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    x[..., 3:6, 9:14] = 90
    angle = RestoreTransform(estimator).find(x).motion["angle"]
    assert angle.remainder(90).abs().min() > 1
    black = RestoreTransform(estimator)(x)
    estimator.fill = "border"
    filled = RestoreTransform(estimator)(x)
    assert (black[..., 0, 0] < 200).all()
    assert (filled[..., 0, 0] == 200).all()
    assert torch.equal(black[..., 5:11, 5:11], filled[..., 5:11, 5:11])


def test_labels_of_a_mask_are_not_mixed():
    restore = RestoreTransform(KINDS["rotation"]())
    image = tv_tensors.Image(_images())
    mask = tv_tensors.Mask(torch.randint(0, 3, (16, 16)) * 100)
    moved = restore(image, mask)[1]
    assert isinstance(moved, tv_tensors.Mask)
    assert set(moved.unique().tolist()) <= {0, 100, 200}
    expected = rotate(
        mask[None, None], -restore.find(image).motion["angle"][None], interpolation="nearest"
    ).as_subclass(torch.Tensor)
    assert torch.equal(moved.as_subclass(torch.Tensor), expected[0, 0])


def test_gradients_reach_the_image():
    restore = RestoreTransform(KINDS["rotation"]())
    x = _images(2, dtype=torch.float64).requires_grad_()
    restore(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_autocast_and_scale_change_nothing(estimator):
    restore = RestoreTransform(estimator)
    x = _images(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = restore.find(x.float(), scores=True).scores
    assert torch.equal(scores, restore.find(x.float(), scores=True).scores)
    found, scaled = restore.find(x).motion, restore.find(x.double() / 255).motion
    assert_close(scaled, found, rtol=0, atol=2e-3)


@pytest.mark.slow
def test_it_compiles_and_exports(estimator):
    restore = RestoreTransform(estimator)
    x = _images(4)
    compiled = torch.compile(restore, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), restore(x))
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(restore, (x,), dynamic_shapes=(({0: batch},),))
    more = _images(7)
    assert torch.equal(exported.module()(more), restore(more))


def test_weights_are_buffers_and_come_from_files(estimator, tmp_path):
    restore = RestoreTransform(estimator)
    assert list(restore.parameters()) == []
    save_estimator(estimator, tmp_path / "e.safetensors")
    x = _images(3)
    assert torch.equal(RestoreTransform(tmp_path / "e.safetensors")(x), restore(x))


def test_other_sizes_are_refused(estimator):
    message = "Expected `x` to have shape (batch, 3, 16, 16), but got (1, 3, 16, 15)."
    with pytest.raises(ValueError, match=re.escape(message)):
        RestoreTransform(estimator)(torch.zeros(3, 16, 15))
