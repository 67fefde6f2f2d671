"""Checkpoints of version 0.1.0, which hold a digest; they load for ever.

Each is of a module trained for one epoch, by the command in the comment, on `X` as one batch.
"""

import warnings
from pathlib import Path

import lightning
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from eqrestore_lightning import (
    ClassifierModule,
    RestorerModule,
    RestoreTransform,
    RotationEstimator,
    Shift,
    TranslationEstimator,
    Turn,
    UprightEstimator,
    load_estimator,
)
from eqrestore_lightning.motions import QuarterTurn
from eqrestore_lightning.training import load_classifier

pytestmark = pytest.mark.filterwarnings("ignore:.*loaded checkpoint was produced with Lightning")
FOLDER = Path(__file__).parent / "checkpoints"
X = torch.linspace(0, 1, 512).reshape(2, 1, 16, 16)
RESTORERS = {
    # RestorerModule(TranslationEstimator(1, (16, 16), hidden_channels=[2], kernel_size=3,
    #                                     bias=True), motion=Shift(max_shift=2), seed=5)
    "shifts-digest": (
        TranslationEstimator,
        Shift(max_shift=2),
        [0.04649864, 0.01056126, 0.00767001, 0.01101037],
    ),
    # RestorerModule(RotationEstimator(1, (16, 16), num_radii=3, num_angles=8,
    #                                  hidden_channels=[2], kernel_size=3), seed=6)
    "rotations-digest": (
        RotationEstimator,
        Turn(),
        [0.83488107, 0.61077279, 0.40534955, 0.33894581],
    ),
    # RestorerModule(UprightEstimator(1, scorer_options={"channels": [4]}), seed=7)
    "upright-digest": (
        UprightEstimator,
        QuarterTurn(),
        [-0.02483394, -0.00693404, 0.03238064, 0.03100416],
    ),
}


@pytest.mark.parametrize("name", RESTORERS)
def test_restorers(name):
    path = FOLDER / f"{name}.ckpt"
    kind, motion, expected = RESTORERS[name]
    module = RestorerModule.load_from_checkpoint(path, weights_only=True).eval()
    assert isinstance(module.estimator, kind)
    assert module.motion == motion
    assert_close(module.estimator(X).flatten()[:4], torch.tensor(expected))
    estimator = load_estimator(path, require_digest=True)
    assert estimator.config == module.estimator.config
    assert torch.equal(estimator.estimate(X)[motion.fields[0].name], _found(module))
    assert torch.equal(RestoreTransform(path)(X), RestoreTransform(estimator)(X))


def _found(module):
    return module.estimator.estimate(X)[module.motion.fields[0].name]


def test_classifier():
    # ClassifierModule(1, 3, architecture="vgg16", width=1 / 64, seed=8), of 32 × 32 pixels
    path = FOLDER / "classifier-digest.ckpt"
    module = ClassifierModule.load_from_checkpoint(path, weights_only=True).eval()
    x = torch.linspace(0, 1, 2048).reshape(2, 1, 32, 32)
    expected = torch.tensor([[-0.16995698, 0.11089252, -0.18923996]])
    assert_close(module(x)[:1], expected)
    assert torch.equal(load_classifier(str(path)).eval()(x), module(x))


@pytest.mark.parametrize("name", RESTORERS)
def test_training_goes_on(name, tmp_path):
    path = FOLDER / f"{name}.ckpt"
    module = RestorerModule.load_from_checkpoint(path, weights_only=True)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, callbacks=[], **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loaders, and other versions of it
        loader = DataLoader([(x, 0) for x in X], batch_size=2)
        trainer.fit(module, loader, ckpt_path=path, weights_only=True)
    assert trainer.global_step == 2
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    load_estimator(tmp_path / "new.ckpt", require_digest=True)


@pytest.mark.parametrize("name", RESTORERS)
def test_damage_is_noticed(name, tmp_path):
    checkpoint = torch.load(FOLDER / f"{name}.ckpt", weights_only=True)
    next(iter(checkpoint["state_dict"].values())).flatten()[0] += 1e-3
    torch.save(checkpoint, tmp_path / "damaged.ckpt")
    with pytest.raises(ValueError, match=r"the file is damaged, or was changed\.$"):
        RestorerModule.load_from_checkpoint(tmp_path / "damaged.ckpt")
