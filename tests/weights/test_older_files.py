"""Files of weights that must load, and restore the same bits, for ever.

`python tests/weights/test_older_files.py` writes those of `MADE` that are missing, together with
what they restore, into `files/`. What is there is never written again: change how a file was made
by adding another.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from eqrestore_lightning import (
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
    UprightEstimator,
)
from eqrestore_lightning.nn import ESTIMATORS, ProfileEstimator, SeamRule
from eqrestore_lightning.theory import ConstructedEstimator, TemplateEstimator
from eqrestore_lightning.weights import load_estimator, save_estimator

FOLDER = Path(__file__).parent / "files"
SMALL = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}
POLAR = {"num_radii": 3, "num_angles": 8, **SMALL}
INTERPOLATED = ("rotation", "roto-translation")  # other angles: bits differ between processors


def _images(*shape):
    """Return uint8 images that are the same on every machine, and do not repeat themselves."""
    places = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
    weights = (91, 53, 37, 11)
    mixed = sum(weight * place * (place + 3) for weight, place in zip(weights, places, strict=True))
    return ((mixed + places[0] * places[2] * places[3] + 7 * places[2] * places[3]) % 256).byte()


GRAY, COLOR, LARGE = _images(3, 1, 8, 8), _images(3, 3, 8, 9), _images(3, 3, 24, 24)
BINARY, FEW = GRAY // 128, GRAY[:, :, :4, :4] // 32
MADE = {
    "translation": (lambda: TranslationEstimator(3, (8, 9), **SMALL), COLOR),
    "translation-float16": (lambda: TranslationEstimator(3, (8, 9), **SMALL), COLOR),
    "integers": (
        lambda: TranslationEstimator(3, (8, 9), **SMALL, bits=8),
        COLOR,
    ),
    "width": (lambda: TranslationEstimator(3, (8, 9), axes=(-1,), **SMALL), COLOR),
    "quarter-turns": (lambda: QuarterTurnEstimator(1, (8, 8), mirrors=True, **SMALL), GRAY),
    "rotation": (lambda: RotationEstimator(1, (8, 8), **POLAR), GRAY),
    "roto-translation": (
        lambda: RotoTranslationEstimator(1, (8, 8), translation=SMALL, rotation=POLAR),
        GRAY,
    ),
    "profile": (
        lambda: ProfileEstimator(3, channels=4, features=6, profile_channels=4, candidates=3),
        LARGE,
    ),
    "seam": (lambda: SeamRule(3), LARGE),
    "upright": (lambda: UprightEstimator(3, scorer_options={"channels": [4, 8]}), LARGE),
    "upright-float16": (
        lambda: UprightEstimator(3, mirrors=True, scorer_options={"channels": [4, 8]}),
        LARGE,
    ),
    "template": (lambda: TemplateEstimator.from_images(BINARY), BINARY),
    "constructed": (lambda: ConstructedEstimator.from_images(FEW), FEW),
}


def _restored(name):
    """Return what the images, shifted, are restored to, and the margin of each."""
    restore = RestoreTransform(FOLDER / f"{name}.safetensors")
    x = MADE[name][1].roll((2, -3), dims=(2, 3))
    return {"restored": restore(x).contiguous(), "margin": restore.find(x).margin}


@pytest.mark.parametrize("name", MADE)
def test_a_file_restores_what_it_restored(name):
    expected = load_file(FOLDER / f"{name}.expected.safetensors")
    found = _restored(name)
    apart = (found["restored"].int() - expected["restored"].int()).abs()
    assert apart.amax() <= (1 if name in INTERPOLATED else 0)
    assert found["restored"].dtype == torch.uint8
    assert_close(found["margin"], expected["margin"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_a_file_holds_a_digest_and_is_written_as_it_was(name, tmp_path):
    path = FOLDER / f"{name}.safetensors"
    estimator = load_estimator(path, require_digest=True)
    assert type(estimator).__name__ == type(MADE[name][0]()).__name__
    dtype = torch.float16 if name.endswith("float16") else None
    save_estimator(estimator, tmp_path / path.name, dtype=dtype)
    before, after = load_file(path), load_file(tmp_path / path.name)
    assert list(before) == list(after)
    for key, value in before.items():
        assert value.dtype == after[key].dtype
        assert torch.equal(value, after[key])


def test_every_kind_of_estimator_has_a_file():
    ours = {name for name, kind in ESTIMATORS.items() if "eqrestore" in kind.__module__}
    assert ours == {type(make()).__name__ for make, _ in MADE.values()}


def test_files_are_small():
    files = list(FOLDER.iterdir())
    assert len(files) == 2 * len(MADE)
    assert sum(path.stat().st_size for path in files) < 200_000


def _write_missing():
    FOLDER.mkdir(exist_ok=True)
    for seed, (name, (make, _)) in enumerate(MADE.items()):
        path = FOLDER / f"{name}.safetensors"
        if not path.exists():
            torch.manual_seed(seed)
            dtype = torch.float16 if name.endswith("float16") else None
            save_estimator(make().eval(), path, dtype=dtype, metadata={"made by": "this test"})
            save_file(_restored(name), FOLDER / f"{name}.expected.safetensors")


if __name__ == "__main__":
    _write_missing()
