"""A kind of estimator, and of motion, that a user defines: all that it takes is one subclass."""

import json
import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.motions import Field, Motion
from eqrestore_lightning.nn import Estimator, register_estimator
from eqrestore_lightning.nn._base import ESTIMATORS
from eqrestore_lightning.transforms import RandomMotion, RestoreTransform
from eqrestore_lightning.weights import load_estimator, save_estimator
from eqrestore_lightning.weights._files import estimator_config


@dataclass(frozen=True)
class ReversedRows(Motion):
    """Reverse the order of rows, or not."""

    @property
    def fields(self):
        return (Field("flipped", "flips", tolerances={"": 0}),)

    def periods(self, spatial_size):
        return {"flipped": (2,)}

    def draw(self, batch_size, spatial_size, *, generator=None):
        return {"flipped": torch.randint(2, (batch_size,), generator=generator)}

    def apply(self, x, element):
        return torch.where((element["flipped"] == 1).reshape(-1, 1, 1, 1), x.flip(2), x)

    undo = apply


@register_estimator
class ReversedRowsEstimator(Estimator):
    """Score both ways up by one linear layer; images of any size."""

    def __init__(self, in_channels, rows):
        super().__init__()
        self.in_channels = in_channels
        self.spatial_size = None
        self.weight = nn.Parameter(torch.randn(in_channels, rows))

    @property
    def config(self):
        return {"in_channels": self.in_channels, "rows": self.weight.shape[1]}

    @property
    def motion(self):
        return ReversedRows()

    def score(self, x, *, exact):
        if exact:
            x = as_float64(x)
        weight = self.weight.to(x)
        both = [x, x.flip(2)]
        bands = [F.adaptive_avg_pool2d(one, (weight.shape[1], 1)).squeeze(3) for one in both]
        return torch.stack([(band * weight).sum((1, 2)) for band in bands], 1)

    def locate(self, scores, x):
        return {"flipped": scores.argmax(1)}

    def loss(self, scores, element):
        return F.cross_entropy(scores, element["flipped"])

    @torch.no_grad()
    def scale_scores(self, factor):
        self.weight.mul_(factor)


@pytest.fixture
def estimator():
    return ReversedRowsEstimator(3, 4)


@pytest.mark.parametrize("size", [(8, 5), (12, 12)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_both_ways_up_are_restored_to_the_same_image(estimator, size, dtype):
    restore = RestoreTransform(estimator)
    x = torch.randint(0, 256, (20, 3, *size)).to(dtype)
    found = restore.find(x, scores=True)
    assert found.motion["flipped"].unique().tolist() == [0, 1]
    assert found.scores.shape == (20, 2)
    assert torch.equal(restore(x.flip(2)), restore(x))
    assert torch.equal(restore.redo(restore(x), found), x)
    assert torch.equal(RandomMotion(ReversedRows())(restore(x)).amax(), x.amax())


def test_it_is_saved_and_loaded_by_its_name(estimator, tmp_path):
    assert ESTIMATORS["ReversedRowsEstimator"] is ReversedRowsEstimator
    config = json.loads(json.dumps(estimator_config(estimator)))
    assert config == {"kind": "ReversedRowsEstimator", "in_channels": 3, "rows": 4}
    save_estimator(estimator, tmp_path / "e.safetensors")
    loaded = load_estimator(tmp_path / "e.safetensors")
    assert isinstance(loaded, ReversedRowsEstimator)
    x = torch.rand(5, 3, 8, 9)
    assert torch.equal(loaded.exact_scores(x), estimator.exact_scores(x))
    restore = RestoreTransform(tmp_path / "e.safetensors")
    assert torch.equal(restore(x), RestoreTransform(estimator)(x))


def test_what_the_base_class_does_for_it(estimator):
    x = torch.rand(5, 3, 8, 9)
    scores = estimator.exact_scores(x)
    assert scores.dtype == torch.float64
    assert_close(estimator(x), scores.float())
    assert torch.equal(estimator.margin(scores), (scores[:, 0] - scores[:, 1]).abs())
    assert not estimator.constant(estimator(x)).any()
    assert estimator.constant(estimator(0 * x)).all()
    assert estimator.training_motion == estimator.motion
    assert estimator.num_spatial_dims == 2


def test_images_of_any_size_still_have_channels_and_two_axes(estimator):
    estimator(torch.zeros(2, 3, 8, 9))
    for shape in ((2, 1, 8, 9), (3, 8, 9), (2, 3, 8)):
        message = f"Expected `x` to have shape (batch, 3, height, width), but got {shape}."
        for score in (estimator, estimator.exact_scores):
            with pytest.raises(ValueError, match=re.escape(message)):
                score(torch.zeros(shape))
    message = "Expected `x` to have shape (batch, 3, height, width), but got (1, 1, 8, 9)."
    with pytest.raises(ValueError, match=re.escape(message)):
        RestoreTransform(estimator)(torch.zeros(1, 8, 9))


def test_the_name_of_another_estimator_is_refused():
    message = "Expected a new name for an estimator, but 'TranslationEstimator' is taken by "
    with pytest.raises(ValueError, match=re.escape(message)):
        register_estimator(type("TranslationEstimator", (ReversedRowsEstimator,), {}))


def test_a_kind_may_be_registered_again():
    first, second = (_define() for _ in range(2))
    assert first is not second
    assert ESTIMATORS.pop("Again") is second


def _define():
    @register_estimator
    class Again(ReversedRowsEstimator):
        pass

    return Again
