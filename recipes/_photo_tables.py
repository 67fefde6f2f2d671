"""What an estimator and the rules find on photographs: tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from _photo_data import FILTERS, crops_of, small_crops, test_crops, through_jpeg
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from eqrestore_lightning import RestoreTransform, circular_shift
from eqrestore_lightning.evaluation import Restorer, seam_rules
from eqrestore_lightning.functional import random_shift, zero_fill_shift
from eqrestore_lightning.nn import Estimator

Row = dict[str, str | int | float]

SIZES = ((32, 32), (64, 64), (96, 160), (128, 128), (224, 224), (320, 320))
_PIXELS = 2**20  # of the images restored at once


def restorers(estimator: Estimator) -> dict[str, Restorer]:
    """Return what is compared: the estimator and the rules."""
    return {"photo": RestoreTransform(estimator), **seam_rules(3)}


def exact_share(restore: Restorer, images: Tensor, seed: int = 0) -> float:
    """Return how many images are themselves again, bit for bit, after a random shift, %."""
    generator = torch.Generator().manual_seed(seed)
    right = 0
    for part in _parts(images):
        largest = [size // 2 for size in part.shape[2:]]
        shift = random_shift(len(part), largest, num_spatial_dims=2, generator=generator)
        restored = restore(circular_shift(part, shift))
        right += int((restored == part).flatten(1).all(1).sum())
    return 100 * right / len(images)


def size_rows(
    compared: Mapping[str, Restorer],
    small: Tensor | None,
    paths: Sequence[Path],
    count: int,
) -> Iterator[Row]:
    """Measure each size; `small` are test images of CIFAR-10, `paths` test photographs."""
    sets: dict[str, Callable[[], Tensor]] = {}
    if small is not None:
        sets["CIFAR-10 32 × 32"] = lambda: small
        sets["CIFAR-10, crops of 24 × 24"] = lambda: small_crops(small, 24)
    for height, width in SIZES:
        number = count if height < 200 else count // 2
        sets[f"photographs {height} × {width}"] = partial(test_crops, paths, height, width, number)
    for name, build in sets.items():
        yield _row(name, compared, build())


def source_rows(
    compared: Mapping[str, Restorer], paths: Sequence[Path], size: int, count: int
) -> Iterator[Row]:
    """Measure crops of each photograph by itself."""
    for path in paths:
        with Image.open(path) as file:
            fits = min(file.size) >= size
        if fits:
            yield _row(f"{path.stem} {size}", compared, test_crops([path], size, size, count))


def jpeg_rows(compared: Mapping[str, Restorer], paths: Sequence[Path], count: int) -> Iterator[Row]:
    """Measure crops that were saved as JPEG before they were shifted."""
    for size in (64, 224):
        crops = test_crops(paths, size, size, count)
        yield _row(f"{size}, PNG", compared, crops)
        for quality in (50, 65, 75, 85, 95):
            saved = [pil_to_tensor(through_jpeg(to_pil_image(c), quality)) for c in crops]
            yield _row(f"{size}, JPEG {quality}", compared, torch.stack(saved))


def resized_rows(
    compared: Mapping[str, Restorer], paths: Sequence[Path], count: int
) -> Iterator[Row]:
    """Measure crops of photographs that were resized before."""
    for scale in (0.5, 0.7, 1.5, 2.0):
        images = []
        for path in paths:
            with Image.open(path) as file:
                size = (int(file.size[0] * scale), int(file.size[1] * scale))
                images.append(file.convert("RGB").resize(size, FILTERS[1]))
        for side in (64, 128, 224):
            if any(min(image.size) >= side for image in images):
                crops = crops_of(images, side, side, count, seed=3)
                yield _row(f"{side}, resized by {scale}", compared, crops)


def gate_rows(
    estimator: Estimator, small: Tensor, paths: Sequence[Path], count: int
) -> Iterator[Row]:
    """Measure, for several gates, how many images stay, and how many shifted ones are restored."""
    restore = RestoreTransform(estimator)
    sets = {"CIFAR-10 32 × 32": small[:2_000]}
    for size in (64, 224):
        sets[f"photographs {size} × {size}"] = test_crops(paths, size, size, count)
    for name, images in sets.items():
        found = [restore.find(part) for part in _parts(images)]
        margin = torch.cat([each.margin for each in found])
        still = torch.cat([(each.motion["shift"] == 0).all(1) for each in found])
        for gate in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0):
            trusted = margin >= gate
            yield {
                "images": name,
                "min_margin": gate,
                "left as they are, %": 100 * (still | ~trusted).float().mean().item(),
                "restored after a circular shift, %": 100 * (still & trusted).float().mean().item(),
            }


def camera_rows(estimator: Estimator, paths: Sequence[Path], count: int) -> Iterator[Row]:
    """Measure how many images of a camera that moved by up to 8 pixels are left as they are.

    What enters is what lies there, as in a crop that moves, or black.
    """
    restore = RestoreTransform(estimator)
    generator = torch.Generator().manual_seed(0)
    for size in (64, 224):
        crops = test_crops(paths, size, size, count)
        black = zero_fill_shift(crops, random_shift(len(crops), 8, generator=generator))
        for name, images in (("what lies there", crops), ("black", black)):
            found = [restore.find(part) for part in _parts(images)]
            margin = torch.cat([each.margin for each in found])
            still = torch.cat([(each.motion["shift"] == 0).all(1) for each in found])
            shares = {
                f"left as they are, `min_margin={gate}`, %": 100
                * (still | (margin < gate)).float().mean().item()
                for gate in (0, 1, 3, 6)
            }
            yield {"images": f"{size} × {size}", "number": len(images), "enters": name, **shares}


def invariance_rows(
    estimator: Estimator, small: Tensor | None, paths: Sequence[Path]
) -> Iterator[Row]:
    """Count restored images that differ in any bit: every shift of 32 × 32, 64 of larger ones."""
    restore = RestoreTransform(estimator)
    images = test_crops(paths, 32, 32, 20) if small is None else small[:20]
    every = [(down, right) for down in range(32) for right in range(32)]
    sets = [(images, every)]
    generator = torch.Generator().manual_seed(0)
    for (height, width), count in (((97, 161), 20), ((224, 224), 1_000), ((300, 427), 5)):
        drawn = random_shift(64, [height // 2, width // 2], num_spatial_dims=2, generator=generator)
        sets.append((test_crops(paths, height, width, count), [tuple(s) for s in drawn.tolist()]))
    for images, shifts in sets:
        restored = restore(images)
        differing = sum(
            int((restore(images.roll(shift, (2, 3))) != restored).flatten(1).any(1).sum())
            for shift in shifts
        )
        yield {
            "images": f"{len(images)} of {images.shape[2]} × {images.shape[3]}",
            "shifts": len(shifts),
            "restored images that differ": differing,
        }


def _row(name: str, compared: Mapping[str, Restorer], images: Tensor) -> Row:
    shares = {label: exact_share(restore, images) for label, restore in compared.items()}
    return {"images": name, "number": len(images), **shares}


def _parts(images: Tensor) -> tuple[Tensor, ...]:
    return torch.split(images, max(1, _PIXELS // (images.shape[2] * images.shape[3])))
