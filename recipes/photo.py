"""Train `photo`: one small file of weights that restores photographs of any size.

Photographs that wrap around show a seam, whatever their size. Trained on CIFAR-10 and on some
twenty photographs that come with Python packages, with random crops, sizes, JPEG qualities, blur,
noise and contrast; measured on other photographs, beside rules that need no training.

    pip install scikit-image scikit-learn
    python recipes/photo.py --data data --panoramas data/panoramas

With `--weights FILE` (or the name of bundled weights) and `--minutes 0` nothing is trained and only
the tables are printed; with `--weights` and minutes training starts from them. To train on your own
photographs, use `eqrestore fit`.
"""

import io
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from _run import DATA, Run, command_line, is_rank_zero, rank
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from eqrestore_lightning import (
    CIFAR10DataModule,
    RestorerModule,
    RestoreTransform,
    build_preset,
    circular_shift,
    load_estimator,
)
from eqrestore_lightning.data._photographs import find_photographs
from eqrestore_lightning.evaluation._found import gate_rows
from eqrestore_lightning.evaluation._restorers import Restorer
from eqrestore_lightning.evaluation._rules import seam_rules
from eqrestore_lightning.functional._shift import random_shift, zero_fill_shift
from eqrestore_lightning.motions import Shift

Sets = Mapping[str, Callable[[], Tensor]]
TRAINING_PANORAMAS = ("city", "forest", "interior", "night", "sunrise")
TEST_PANORAMAS = ("courtyard", "studio", "sunset")
FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
SIZES = ((32, 32), (64, 64), (96, 160), (128, 128), (224, 224), (320, 320))
GATES = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
_SMALLEST = 40  # shorter side to which photographs are resized, pixels
_LARGEST_SCALE = 2.0
_IN_MEMORY = 150  # resized photographs held at a time
_PIXELS = 2**16  # of a training batch
_AT_ONCE = 2**20  # pixels of the images restored at once


def main(
    data: Path = DATA,
    panoramas: Path = DATA / "panoramas",
    output: Path = Path("outputs/photo"),
    weights: str | None = None,
    minutes: float = 60.0,
    learning_rate: float = 5e-3,
    count: int = 2_000,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds CIFAR-10; by default EQRESTORE_DATA, or data.
        panoramas: Folder of the panoramas.
        output: Folder for weights and tables.
        weights: Where to start: bundled weights or a file; by default fresh weights.
        minutes: How long to train; 0 to measure only.
        learning_rate: Of AdamW.
        count: Test crops of each size.
        seed: Decides everything random.
    """
    settings = {"weights": weights, "minutes": minutes, "learning_rate": learning_rate}
    run = Run("photo", output, seed=seed, config=settings)
    L.seed_everything(seed, verbose=False)
    estimator = load_estimator(weights) if weights else build_preset("photo", 3, ())
    small = CIFAR10DataModule(data, padding=0)
    if minutes > 0:
        scenes = [panoramas / f"{scene}.jpg" for scene in TRAINING_PANORAMAS]
        paths = [*find_photographs("train", grayscale=True).values(), *scenes]
        drawn = Batches(small.dataset("train").images, paths, 1_000 * seed + rank())
        batches: Any = DataLoader(drawn, batch_size=None)
        batches.settings = {"photographs": [path.name for path in paths], "from": weights}
        module = RestorerModule(
            estimator, learning_rate=learning_rate, weight_decay=1e-2, seed=seed
        )
        options: dict[str, Any] = {"use_distributed_sampler": False, "limit_val_batches": 0}
        run.fit("restorer", module, batches, minutes=minutes, launcher_precision=True, **options)
    if is_rank_zero():  # evaluate in one process
        if minutes > 0:
            run.save_weights("photo", estimator.cpu(), stage="restorer", metrics={})
        scenes = [panoramas / f"{scene}.jpg" for scene in TEST_PANORAMAS]
        paths = [*find_photographs("test").values(), *scenes]
        report(run, RestoreTransform(estimator.eval()), small.dataset("test").images, paths, count)
        run.close()


def report(
    run: Run, restore: RestoreTransform, small: Tensor, paths: Sequence[Path], count: int
) -> None:
    """Print all tables; `small` are test images of CIFAR-10, `paths` test photographs."""
    compared: dict[str, Restorer] = {"photo": restore, **seam_rules(3)}
    pictures = {path.stem: Image.open(path).convert("RGB") for path in paths}
    for title, sets in crop_sets(small, pictures, count).items():
        run.add_table(title, [_row(name, compared, build()) for name, build in sets.items()])
    images = list(pictures.values())
    run.add_table("a camera that moves", list(camera_rows(restore, images, count)))
    gated = {"CIFAR-10 32 × 32": small[:2_000]}
    gated |= {f"photographs {n} × {n}": crops_of(images, n, n, count, seed=n) for n in (64, 224)}
    rows = [
        {"images": name, **row}
        for name, crops in gated.items()
        for row in gate_rows(None, _parts(crops), restore, motion=Shift(), min_margins=GATES)
    ]
    run.add_table("gate", rows)


def crop_sets(small: Tensor, pictures: Mapping[str, Image.Image], count: int) -> dict[str, Sets]:
    """Return what is restored, by table and row; images are made when they are asked for."""
    images, few = list(pictures.values()), count // 4
    sizes: dict[str, Callable[[], Tensor]] = {
        "CIFAR-10 32 × 32": lambda: small,
        "CIFAR-10, crops of 24 × 24": lambda: small_crops(small, 24),
    }
    for height, width in SIZES:
        number = count if height < 200 else count // 2
        sizes[f"photographs {height} × {width}"] = partial(
            crops_of, images, height, width, number, height
        )
    tables: dict[str, Sets] = {"restored exactly, %": sizes}
    for size in (64, 224):
        tables[f"by photograph, {size} × {size}"] = {
            name: partial(crops_of, [picture], size, size, count // 8, size)
            for name, picture in pictures.items()
            if min(picture.size) >= size
        }

    def compressed(size: int, quality: int) -> Tensor:
        crops = crops_of(images, size, size, few, size)
        saved = [pil_to_tensor(through_jpeg(to_pil_image(crop), quality)) for crop in crops]
        return torch.stack(saved)

    tables["saved as JPEG before the shift"] = {
        f"{size}, JPEG {quality}": partial(compressed, size, quality)
        for size in (64, 224)
        for quality in (50, 65, 75, 85, 95)
    }

    def resized(scale: float, side: int) -> Tensor:
        scaled = [
            image.resize((int(image.size[0] * scale), int(image.size[1] * scale)), FILTERS[1])
            for image in images
        ]
        return crops_of(scaled, side, side, few, seed=3)

    largest = max(min(image.size) for image in images)
    tables["resized before the shift"] = {
        f"{side}, resized by {scale}": partial(resized, scale, side)
        for scale in (0.5, 0.7, 1.5, 2.0)
        for side in (64, 128, 224)
        if largest * scale >= side
    }
    return tables


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


def camera_rows(
    restore: RestoreTransform, images: Sequence[Image.Image], count: int
) -> Iterator[dict[str, Any]]:
    """Count images of a camera that moved, filled by what lies there or black, that stay."""
    generator = torch.Generator().manual_seed(0)
    for size in (64, 224):
        crops = crops_of(images, size, size, count, size)
        black = zero_fill_shift(crops, random_shift(len(crops), 8, generator=generator))
        for name, views in (("what lies there", crops), ("black", black)):
            found = [restore.find(part) for part in _parts(views)]
            margin = torch.cat([each.margin for each in found])
            still = torch.cat([(each.motion["shift"] == 0).all(1) for each in found])
            shares = {
                f"left as they are, `min_margin={gate}`, %": 100
                * (still | (margin < gate)).float().mean().item()
                for gate in (0, 1, 3, 6)
            }
            yield {"images": f"{size} × {size}", "number": len(views), "enters": name, **shares}


class Pool:
    """Photographs of random sizes and histories, of which some are in memory and renewed in turns.

    Perhaps saved as JPEG, resized, darkened, saved again: night leaves little but JPEG's own steps.
    """

    def __init__(self, paths: Sequence[Path], generator: random.Random) -> None:
        self.paths = list(paths)
        self.random = generator
        self.images = [self._draw(index % len(self.paths)) for index in range(_IN_MEMORY)]

    def renew(self) -> None:
        """Replace one photograph."""
        self.images[self.random.randrange(len(self.images))] = self._draw()

    def crops(self, count: int, height: int, width: int) -> Tensor:
        """Cut windows at random: uint8 of shape `(count, 3, height, width)`."""
        fitting = [i for i in self.images if i.shape[1] >= height and i.shape[2] >= width]
        crops = []
        for _ in range(count):
            if fitting:
                image = self.random.choice(fitting)
            else:
                image = _enlarge(self.random.choice(self.images), height, width)
            down = self.random.randint(0, image.shape[1] - height)
            right = self.random.randint(0, image.shape[2] - width)
            crops.append(image[:, down : down + height, right : right + width])
        return torch.stack(crops)

    def _draw(self, index: int | None = None) -> Tensor:
        draw = self.random
        path = draw.choice(self.paths) if index is None else self.paths[index]
        with Image.open(path) as file:
            image = file.convert("RGB")
        if draw.random() < 0.3:
            image = through_jpeg(image, draw.randint(40, 95), draw.choice((0, 2)))
        if draw.random() < 0.8:
            least = max(0.12, _SMALLEST / min(image.size))
            scale = math.exp(draw.uniform(math.log(least), math.log(_LARGEST_SCALE)))
            aspect = math.exp(draw.gauss(0, 0.1))
            width, height = (
                max(_SMALLEST, int(side * scale * factor))
                for side, factor in zip(image.size, (aspect, 1 / aspect), strict=True)
            )
            image = image.resize((width, height), draw.choice(FILTERS))
        if draw.random() < 0.25:
            image = ImageEnhance.Brightness(image).enhance(draw.uniform(0.08, 0.7))
        if draw.random() < 0.5:
            image = through_jpeg(image, draw.randint(40, 97), draw.choice((0, 2)))
        pixels: Tensor = pil_to_tensor(image)
        return pixels


class Batches(IterableDataset[Tensor]):
    """Batches of images of one size each, about 65,000 pixels in all, floating, from 0 to 255.

    Two fifths are small images, a fifth parts of small images, the rest crops of photographs.
    """

    def __init__(self, small: Tensor, paths: Sequence[Path], seed: int) -> None:
        super().__init__()
        self.small = small
        self.random = random.Random(seed)  # noqa: S311
        self.generator = torch.Generator().manual_seed(seed)
        self.pool = Pool(paths, self.random)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw batches without end."""
        while True:
            self.pool.renew()
            kind = self.random.choices(("whole", "part", "photograph"), (0.4, 0.2, 0.4))[0]
            if kind == "photograph":
                images = self._photographs()
            else:
                images = self._take(self.small) if kind == "whole" else self._part(self.small)
            yield augmented(images, self.random, self.generator)

    def _photographs(self) -> Tensor:
        height = int(math.exp(self.random.uniform(math.log(24), math.log(160))))
        width = int(min(180, max(24, height * math.exp(self.random.gauss(0, 0.35)))))
        return self.pool.crops(max(4, _PIXELS // (height * width)), height, width)

    def _take(self, small: Tensor, pixels: int | None = None) -> Tensor:
        count = _PIXELS // (pixels or math.prod(small.shape[2:]))
        return small[torch.randint(len(small), (count,), generator=self.generator)]

    def _part(self, small: Tensor) -> Tensor:
        draw, size = self.random, min(small.shape[2:])
        if draw.random() < 0.7:
            least = min(20, size)
            height, width = draw.randint(least, size), draw.randint(least, size)
            if draw.random() < 0.5:
                height = width = 3 * size // 4
            images = self._take(small, height * width)
        else:
            whole = int(size * draw.uniform(1.1, 2.5))
            images = _resized(self._take(small, whole**2), (whole, whole), draw)
            height, width = draw.randint(24, whole), draw.randint(24, whole)
        down = draw.randint(0, images.shape[2] - height)
        right = draw.randint(0, images.shape[3] - width)
        return images[..., down : down + height, right : right + width]


def augmented(images: Tensor, draw: random.Random, generator: torch.Generator) -> Tensor:
    """Mirror, blur, change contrast and brightness, add noise; whole numbers, 0 to 255, float32."""
    x = images.float()

    def uniform() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator)

    for axis, share in ((3, 0.5), (2, 0.3)):
        if draw.random() < share:
            x = x.flip(axis)
    if draw.random() < 0.25:
        weight = draw.uniform(0.05, 0.3) * uniform()
        for axis in (3, 2):
            ends = [1, 1, 0, 0] if axis == 3 else [0, 0, 1, 1]
            padded = F.pad(x, ends, mode="replicate")
            sides = padded.narrow(axis, 0, x.shape[axis]) + padded.narrow(axis, 2, x.shape[axis])
            x = x * (1 - 2 * weight) + weight * sides
    if draw.random() < 0.5:
        mean = x.mean((1, 2, 3), keepdim=True)
        x = (x - mean) * torch.exp(uniform() * 1.4 - 1) + mean + (uniform() - 0.5) * 80
    if draw.random() < 0.2:
        x = x + torch.randn(x.shape, generator=generator) * uniform() ** 2 * 8
    if draw.random() < 0.1:
        channels = [1, 1, 1] if draw.random() < 0.5 else draw.sample(range(3), 3)
        x = x[:, channels]
    return x.round().clamp(0, 255)


def crops_of(
    images: Sequence[Image.Image], height: int, width: int, count: int, seed: int
) -> Tensor:
    """Cut windows from images in turns, the same each time; those too small are left out."""
    draw = random.Random(seed)  # noqa: S311
    images = [i for i in images if i.size[0] >= width and i.size[1] >= height]
    crops = []
    for index in range(count):
        image = images[index % len(images)]
        down = draw.randint(0, image.size[1] - height)
        right = draw.randint(0, image.size[0] - width)
        crops.append(pil_to_tensor(image.crop((right, down, right + width, down + height))))
    return torch.stack(crops)


def through_jpeg(image: Image.Image, quality: int, subsampling: int = 2) -> Image.Image:
    """Return what is left of an image after JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer).convert("RGB")


def small_crops(images: Tensor, size: int, seed: int = 1) -> Tensor:
    """Cut one window out of each small image, at random: the same each time."""
    draw = random.Random(seed)  # noqa: S311
    spare = images.shape[2] - size
    corners = [(draw.randint(0, spare), draw.randint(0, spare)) for _ in range(len(images))]
    return torch.stack(
        [x[:, i : i + size, j : j + size] for x, (i, j) in zip(images, corners, strict=True)]
    )


def _row(name: str, compared: Mapping[str, Restorer], images: Tensor) -> dict[str, Any]:
    shares = {label: exact_share(restore, images) for label, restore in compared.items()}
    return {"images": name, "number": len(images), **shares}


def _parts(images: Tensor) -> tuple[Tensor, ...]:
    return torch.split(images, max(1, _AT_ONCE // (images.shape[2] * images.shape[3])))


def _enlarge(image: Tensor, height: int, width: int) -> Tensor:
    size = (max(height, image.shape[1]), max(width, image.shape[2]))
    enlarged = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)
    return enlarged[0].round().byte()


def _resized(images: Tensor, size: tuple[int, int], draw: random.Random) -> Tensor:
    mode = draw.choice(("bilinear", "bicubic"))
    resized = F.interpolate(images.float(), size=size, mode=mode, align_corners=False)
    return resized.round().clamp(0, 255).byte()


if __name__ == "__main__":
    command_line(main)
