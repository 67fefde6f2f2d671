"""Restoring in graphs of torch and of other runtimes: the same bits as eager."""

import sys

import pytest
import torch
from torch import nn

from eqrestore_lightning import (
    CopiesEstimator,
    QuarterTurn,
    RestoreTransform,
    RotationEstimator,
    TranslationEstimator,
    Turn,
)
from eqrestore_lightning.nn import ProfileEstimator
from eqrestore_lightning.nn._seam_rule import SeamRule
from eqrestore_lightning.nn._separable import SeparableShiftEstimator
from eqrestore_lightning.transforms import export_onnx
from eqrestore_lightning.weights import bundled_weights


def _images(batch, size, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, channels, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
    noise = 0.05 * torch.randn(batch, channels, *size, generator=generator)
    return ((smooth + noise).clamp(0, 1) * 255).byte()


def _restorers():
    torch.manual_seed(0)
    full = {"hidden_channels": [3], "kernel_size": ["full", 1], "bias": True}
    yield "any size", ProfileEstimator(3, channels=4, features=6, profile_channels=5)
    yield "rule", SeamRule(3)
    yield "translation", TranslationEstimator(3, (16, 16), **full)
    yield "axes", TranslationEstimator(3, (16, 16), axes=(-1,), **full)
    local = {"hidden_channels": [4, 32, 4], "kernel_size": [3, 3, 3, 1], "bias": True}
    yield "integers", TranslationEstimator(3, (16, 16), **local, bits=8)
    yield "rotation", RotationEstimator(3, (16, 16), num_radii=6, num_angles=24)
    small = {"scorer_options": {"channels": [4, 6]}}
    yield "copies", CopiesEstimator(3, motion=QuarterTurn(mirrors=True), **small)
    yield "any turn", CopiesEstimator(3, motion=Turn(), num_angles=24, **small)


RESTORERS = dict(_restorers())


def _with_ties(size=(16, 16)):
    images = torch.cat([_images(5, size), torch.zeros(1, 3, *size, dtype=torch.uint8)])
    repeated = _images(1, (size[0] // 2, size[1] // 2)).repeat(1, 1, 2, 2)
    return torch.cat([images, repeated]).roll((3, 5), (2, 3))


@pytest.mark.parametrize("name", RESTORERS)
def test_vmap(name):
    if torch.__version__.startswith("2.8.") and not isinstance(
        RESTORERS[name], SeparableShiftEstimator
    ):
        pytest.skip("vmap of torch 2.8 has no rule for Tensor.view(dtype)")
    restore = RestoreTransform(RESTORERS[name])
    images = _with_ties()
    assert torch.equal(torch.func.vmap(restore)(images), restore(images))
    pairs = torch.stack([images, images.flip(0)])
    assert torch.equal(torch.func.vmap(restore, in_dims=1, out_dims=1)(pairs), restore(pairs))


def _exported(restore, images, *axes):
    shapes = (dict.fromkeys(axes, torch.export.Dim.DYNAMIC),)
    return torch.export.export(nn.Sequential(restore), (images,), dynamic_shapes=shapes).module()


@pytest.mark.parametrize("name", RESTORERS)
def test_exported_for_any_number_of_images(name):
    restore = RestoreTransform(RESTORERS[name])
    images = _with_ties()
    program = _exported(restore, images, 0)
    assert torch.equal(program(images), restore(images))
    assert torch.equal(program(images[:3]), restore(images[:3]))


@pytest.mark.slow
def test_exported_for_any_size():
    restore = RestoreTransform(RESTORERS["any size"])
    program = _exported(restore, _images(2, (40, 56)), 0, 2, 3)
    for size in ((16, 16), (40, 56), (24, 66)):
        images = _with_ties(size)
        assert torch.equal(program(images), restore(images))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.parametrize("name", sorted(bundled_weights()))
def test_compiled_with_the_default_backend(name):
    restore = RestoreTransform(name)
    upright = isinstance(restore.estimator, CopiesEstimator)
    size = restore.estimator.spatial_size or ((40, 40) if upright else (40, 56))
    compiled = torch.compile(restore, fullgraph=True)
    channels = restore.estimator.in_channels
    same = []
    for seed in range(0, 400 if upright else 10_000 if len(size) == 2 else 200, 200):
        if len(size) == 2:
            images = _images(200, size, channels, seed)
        else:
            images = torch.randint(256, (20, channels, *size), dtype=torch.uint8)
        images[0] = 7
        same.append((compiled(images) == restore(images)).flatten(1).all(1).double().mean())
    # Compiled interpolation of polar images rounds differently.
    least = 0.95 if name.startswith("mnist-rot") else 1.0
    assert torch.stack(same).mean() >= least


@pytest.fixture
def session(tmp_path):
    """Export a module and return what runs the file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def build(module, images, **options):
        path = tmp_path / "restore.onnx"
        export_onnx(module, path, images, **options)
        assert list(tmp_path.iterdir()) == [path]
        loaded = onnxruntime.InferenceSession(path)
        return lambda x: torch.from_numpy(loaded.run(None, {"images": x.numpy()})[0])

    return build


@pytest.mark.slow  # sizes that may change make torch's exporter reason for a minute
def test_onnx_restores_the_same_bits_for_any_size(session):
    restore = RestoreTransform(RESTORERS["any size"])
    restored = session(restore, _images(2, (40, 56)), dynamic=(0, 2, 3))
    for seed, size in enumerate([(16, 16), (40, 56), (21, 67), (56, 40)]):
        images = _images(16, size, seed=seed).roll((3, 7), (2, 3))
        assert torch.equal(restored(images), restore(images))


@pytest.mark.slow
def test_onnx_with_a_gate_and_a_classifier(session):
    images = _images(40, (24, 32)).float() / 255
    restore = RestoreTransform(RESTORERS["any size"])
    margins = restore.find(images).margin
    restore = RestoreTransform(RESTORERS["any size"], min_margin=float(margins.median()))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 32, 10))
    module = nn.Sequential(restore, network).eval()
    classes = session(module, images)
    torch.testing.assert_close(classes(images[:7]), module(images[:7]), rtol=0, atol=1e-5)
    torch.testing.assert_close(classes(images), module(images), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_onnx_restores_10_000_images_to_the_same_bits(session):
    restore = RestoreTransform("photo")
    restored = session(restore, _images(2, (40, 56)), dynamic=(0, 2, 3))
    for seed in range(50):
        images = _images(200, (32 + seed, 48), seed=seed).roll((seed, 11), (2, 3))
        assert torch.equal(restored(images), restore(images))


def test_onnx_refuses_what_it_cannot_hold(tmp_path, monkeypatch):
    path = tmp_path / "restore.onnx"
    images = _images(2, (16, 16))
    with pytest.raises(TypeError, match=r"^Expected `module` to be or to contain a Restore"):
        export_onnx(nn.Flatten(), path, images)
    with pytest.raises(ValueError, match=r"^Expected an estimator for images of any size, such as"):
        export_onnx(RestoreTransform(RESTORERS["translation"]), path, images)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'eqrestore-lightning\[onnx\]'"):
        export_onnx(RestoreTransform(RESTORERS["any size"]), path, images)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), [("mnist", (2, 1, 32, 32)), ("photo", (2, 3, 40, 48))])
def test_exported_programs_are_saved_and_loaded(name, shape, tmp_path):
    restore, x = RestoreTransform(name), torch.randint(0, 256, shape, dtype=torch.uint8)
    torch.export.save(torch.export.export(restore, (x,)), tmp_path / "restore.pt2")
    assert torch.equal(torch.export.load(tmp_path / "restore.pt2").module()(x), restore(x))
