"""Files that this package writes or reads, damaged in ways that happen."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import lightning as L
import numpy as np
import PIL.Image
import torch
from _tried import Kind
from torch import nn

from eqrestore_lightning import (
    CIFAR10DataModule,
    ClassifierModule,
    Estimator,
    MNIST3DDataModule,
    RestorerModule,
    RotationEstimator,
    TranslationEstimator,
    load_estimator,
    save_estimator,
)
from eqrestore_lightning.data import SignalDataModule, read_image
from eqrestore_lightning.nn import SeamRule, UprightEstimator
from eqrestore_lightning.theory import ConstructedEstimator
from eqrestore_lightning.training import load_classifier

NETWORK: dict[str, Any] = {"hidden_channels": [2], "kernel_size": [3, 1], "bias": True}

Damage = Callable[[Random, bytearray], bytearray]


def _place(random: Random, content: bytearray, longest: int = 64) -> slice:
    start = random.randrange(len(content))
    return slice(start, start + random.randint(1, longest))


def _flip(random: Random, content: bytearray, count: int = 1) -> bytearray:
    for _ in range(count):
        bit = random.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
    return content


def _overwrite(random: Random, content: bytearray) -> bytearray:
    place = _place(random, content)
    content[place] = random.choice((random.randbytes, bytes))(len(content[place]))
    return content


def _cut(random: Random, content: bytearray) -> bytearray:
    return content[: random.randrange(len(content))]


def _drop(random: Random, content: bytearray) -> bytearray:
    del content[_place(random, content)]
    return content


def _insert(random: Random, content: bytearray) -> bytearray:
    place = _place(random, content)
    content[place.start : place.start] = content[place]
    return content


def _swap(random: Random, content: bytearray) -> bytearray:
    length = random.randint(1, min(512, len(content) // 4))
    first, second = sorted(random.sample(range(len(content) // length), 2))
    a, b = (slice(n * length, (n + 1) * length) for n in (first, second))
    content[a], content[b] = content[b], content[a]
    return content


DAMAGES: dict[str, Damage] = {
    "a bit flipped": _flip,
    "ten bits flipped": partial(_flip, count=10),
    "a range overwritten": _overwrite,
    "cut": _cut,
    "a range missing": _drop,
    "a range twice": _insert,
    "two blocks swapped": _swap,
}


def damaged(name: str, whole: Path, load: Callable[[Path], object]) -> Kind:
    """Return files that are damaged in all ways, in turns, until they differ from the whole one."""
    content = whole.read_bytes()

    def make(random: Random, folder: Path) -> Path:
        changed = bytearray(content)
        while changed == content:
            changed = random.choice([*DAMAGES.values()])(random, bytearray(content))
        path = folder / whole.name
        path.write_bytes(changed)
        return path

    return Kind(name, make, load, load(whole))


def module_content(module: nn.Module, config: object) -> str:
    """Return a digest of configuration and tensors, by another way than the package's own."""
    sha = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(module.state_dict().items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.numpy().tobytes())
    return sha.hexdigest()


def estimator_content(path: Path) -> str:
    """Load an estimator, digest required."""
    estimator = load_estimator(path)
    return module_content(estimator, estimator.config)


def restorer_content(path: Path) -> str:
    """Load a checkpoint of a `RestorerModule`."""
    module = RestorerModule.load_from_checkpoint(path)
    return module_content(module, dict(module.hparams))


def classifier_content(path: Path) -> str:
    """Load a checkpoint of a `ClassifierModule`."""
    module = load_classifier(str(path))
    return module_content(module, dict(module.hparams))  # type: ignore[arg-type]


def save_checkpoint(module: L.LightningModule, path: Path) -> Path:
    """Write a checkpoint of a module, without training it."""
    trainer = L.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def estimators() -> dict[str, Estimator]:
    """Return small estimators of several kinds."""
    blob = torch.tensor([[0, 1, 3], [2, 0, 0]]).expand(1, 1, 2, 3)
    return {
        "TranslationEstimator": TranslationEstimator(1, (6, 7), **NETWORK),
        "RotationEstimator": RotationEstimator(1, (6, 7), num_radii=3, num_angles=8, **NETWORK),
        "UprightEstimator": UprightEstimator(
            1, resolution=16, num_copies=1, scorer_options={"channels": [2]}
        ),
        "ConstructedEstimator": ConstructedEstimator.from_images(blob, num_bits=2),
        "SeamRule": SeamRule(1),
    }


def protected(folder: Path) -> list[Kind]:
    """Return kinds of files that hold a digest or a checksum of all of their content."""
    kinds = []
    for name, estimator in estimators().items():
        path = folder / f"{name}.safetensors"
        save_estimator(estimator, path)
        kinds.append(damaged(f"weights, {name}", path, estimator_content))
    restorer = RestorerModule(TranslationEstimator(1, (6, 7), **NETWORK))
    path = save_checkpoint(restorer, folder / "restorer.ckpt")
    kinds.append(damaged("checkpoint, load_estimator", path, estimator_content))
    kinds.append(damaged("checkpoint, RestorerModule", path, restorer_content))
    path = save_checkpoint(ClassifierModule(1, 2), folder / "classifier.ckpt")
    slow = damaged("checkpoint, ClassifierModule", path, classifier_content)
    kinds.append(replace(slow, share=0.1))
    return kinds


def archives(folder: Path, *, num_images: int = 5_020) -> list[Kind]:
    """Return damaged archives of CIFAR-10, compressed so that they hold a checksum."""
    kinds = []
    for ending in ("xz", "gz"):
        path = folder / ending / f"cifar10.tar.{ending}"
        path.parent.mkdir()
        _write_archive(path, ending, num_images)
        kinds.append(damaged(f"CIFAR-10 as tar.{ending}", path, _cifar10_content))
    return kinds


def _write_archive(path: Path, ending: str, num_images: int) -> None:
    picture = PIL.Image.new("RGB", (32, 32))
    single = path.with_name("x.bmp")
    with tarfile.open(path, f"w:{ending}") as archive:  # type: ignore[call-overload]
        for number in range(num_images):
            picture.putpixel((number % 32, number // 32 % 32), (255, number % 256, 9))
            if number < 20 or number % 500 == 0:
                picture.save(single)
            split = "test" if number < 10 else "train"
            archive.add(single, f"{split}/class{number % 10}/{number:05}.bmp")
    single.unlink()


def _cifar10_content(path: Path) -> str:
    return CIFAR10DataModule(path.parent).fingerprint()


def unprotected(folder: Path) -> list[Kind]:
    """Return kinds of files whose formats hold no checksum of all of their content."""
    picture = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(picture)
    kinds = []
    for ending in ("png", "jpg", "bmp", "tif", "webp"):
        image.save(folder / f"image.{ending}")
        kinds.append(damaged(f"image, .{ending}", folder / f"image.{ending}", _image_content))
    signals = np.random.default_rng(0).random((20, 9)).round(3)
    np.save(folder / "signals.npy", signals)
    np.savetxt(folder / "signals.csv", signals, delimiter=",", fmt="%.3f")
    for ending in ("npy", "csv"):
        path = folder / f"signals.{ending}"
        kinds.append(damaged(f"signals, .{ending}", path, _signals_content))
    path = folder / "volumes.h5"
    with h5py.File(path, "w") as file:
        for split, count in (("train", 10), ("test", 5)):
            file[f"X_{split}"] = np.random.default_rng(0).random((count, 4_096), dtype="float32")
            file[f"y_{split}"] = np.arange(count) % 10
    kinds.append(damaged("3D-MNIST, .h5", path, _volumes_content))
    return kinds


def _image_content(path: Path) -> bytes:
    return read_image(path).numpy().tobytes()


def _signals_content(path: Path) -> str:
    return SignalDataModule(path, batch_size=2).fingerprint()


def _volumes_content(path: Path) -> str:
    return MNIST3DDataModule(path, padding=0).fingerprint()
