"""A motion and an estimator of one's own are trained, restored, saved and evaluated."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from eqrestore_lightning import (
    Estimator,
    RestorerModule,
    RestoreTransform,
    evaluate,
    load_estimator,
)
from eqrestore_lightning.motions import Field, Motion
from eqrestore_lightning.motions._base import build_motion
from eqrestore_lightning.nn import register_estimator


@dataclass(frozen=True)
class UpsideDown(Motion):
    """Turn images upside down."""

    @property
    def fields(self):
        return (Field("upside_down", "flips"),)

    def periods(self, spatial_size):
        return {"upside_down": (2,)}

    def draw(self, batch_size, spatial_size, *, generator=None):
        return {"upside_down": torch.randint(2, (batch_size,), generator=generator)}

    def apply(self, x, element):
        chosen = element["upside_down"].bool().reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(chosen, x.flip(-2), x)

    undo = apply


@register_estimator
class UpsideDownEstimator(Estimator):
    """Score an image and its mirror image by one linear layer."""

    def __init__(self, in_channels, spatial_size):
        super().__init__()
        self.in_channels, self.spatial_size = in_channels, tuple(spatial_size)
        self.linear = torch.nn.Linear(in_channels * spatial_size[0] * spatial_size[1], 1)

    @property
    def config(self):
        return {"in_channels": self.in_channels, "spatial_size": list(self.spatial_size)}

    @property
    def motion(self):
        return UpsideDown()

    def score(self, x, *, exact):
        views = torch.stack([x, x.flip(-2)], 1).flatten(2).to(self.linear.weight.dtype)
        scores = self.linear(views).squeeze(-1)
        return scores.double() if exact else scores

    def locate(self, scores, x):
        return {"upside_down": scores.argmax(1)}

    def loss(self, scores, element):
        return F.cross_entropy(scores, element["upside_down"])

    def scale_scores(self, factor):
        for parameter in self.parameters():
            parameter.data.mul_(factor)


class _Brighter(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x[..., 4:, :].sum((1, 2, 3)), x[..., :4, :].sum((1, 2, 3))], 1)


def test_it_goes_all_the_way(tmp_path, build_trainer):
    images = torch.rand(64, 1, 8, 9)
    images[:, :, :4] += 0.5
    module = RestorerModule(UpsideDownEstimator(1, (8, 9)), learning_rate=1e-2)
    trainer = build_trainer(max_epochs=10)
    loader = DataLoader(images, batch_size=16)
    trainer.fit(module, loader, loader)
    keys = {"val/loss", "val/upside_down_accuracy", "val/upside_down_distance"}
    assert keys <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    loaded = RestorerModule.load_from_checkpoint(tmp_path / "own.ckpt", weights_only=True)
    assert loaded.motion == build_motion({"kind": "UpsideDown"}) == UpsideDown()
    restore = RestoreTransform(load_estimator(tmp_path / "own.ckpt"))
    evaluation = evaluate(
        _Brighter(),
        [(images, torch.ones(64).long())],
        restorers={"restored": restore},
        motions={"flip": UpsideDown()},
        progress=False,
    )
    plain, restored = evaluation.results
    assert 0.3 < plain.measures["accuracy"] < 0.7
    assert restored.measures["accuracy"] > 0.95
    assert restored.measures["upside_down_accuracy"] > 0.95
