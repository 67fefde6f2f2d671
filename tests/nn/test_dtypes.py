"""Weights keep their dtype in models of any other, so that they find the same."""

import pytest
import torch
from torch import nn

from eqrestore_lightning.nn import ProfileEstimator
from eqrestore_lightning.transforms import RestoreTransform
from eqrestore_lightning.weights import bundled_weights

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("name", sorted(bundled_weights()))
@torch.no_grad()
def test_bundled_weights_find_the_same_in_a_model_of_any_dtype(name):
    alone = RestoreTransform(name)
    size = alone.estimator.spatial_size or (16, 16)
    x = torch.randint(256, (1, alone.estimator.in_channels, *size), dtype=torch.uint8)
    expected = alone(x)
    model = nn.Sequential(RestoreTransform(name), nn.Flatten())
    for dtype in DTYPES:
        restore = model.to(dtype)[0]
        assert torch.equal(restore(x), expected)
        images = (x / 255).to(dtype)
        restored = restore(images)
        assert restored.dtype == dtype
        assert torch.equal(restored, alone(images))
        scores = restore.estimator(images)
        assert scores.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(scores, alone.estimator(images))


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_move_and_train_but_keep_their_dtype(dtype):
    estimator = ProfileEstimator(1, channels=2, features=2, profile_channels=2).to(dtype)
    images = torch.rand(3, 1, 12, 9).to(dtype)
    loss = estimator.loss(estimator(images), {"shift": torch.zeros(3, 2, dtype=torch.int64)})
    loss.backward()
    assert {each.dtype for each in estimator.parameters()} == {torch.float32}
    assert {each.grad.dtype for each in estimator.parameters()} == {torch.float32}
    meta = estimator.to("meta", dtype)
    assert {(each.dtype, each.is_meta) for each in meta.parameters()} == {(torch.float32, True)}
