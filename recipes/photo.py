"""Train `photo`: one small file of weights that restores photographs of any size.

Photographs that wrap around show a seam, whatever their size. Trained on CIFAR-10 and on some
twenty photographs that come with Python packages, with random crops, sizes, JPEG qualities, blur,
noise and contrast; measured on other photographs, beside rules that need no training.

    pip install scikit-image scikit-learn
    python recipes/photo.py --data data --panoramas data/panoramas

The same command takes a folder of your own photographs, of any sizes, at any depth; they are read
from disk in turns, never all at once:

    python recipes/photo.py --photographs my/photographs --test-photographs my/other/photographs

With `--weights FILE` (or the name of bundled weights) and `--minutes 0` nothing is trained and only
the tables are printed; with `--weights` and minutes training starts from them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import lightning as L
from _minutes import train_for
from _origin import origin
from _photo_data import (
    TEST,
    TEST_PANORAMAS,
    TRAINING,
    TRAINING_PANORAMAS,
    Batches,
    list_photographs,
    packaged_photographs,
)
from _photo_tables import (
    Row,
    camera_rows,
    gate_rows,
    invariance_rows,
    jpeg_rows,
    resized_rows,
    restorers,
    size_rows,
    source_rows,
)
from _run import Run, is_rank_zero, rank
from jsonargparse import auto_cli
from torch import Tensor

from eqrestore_lightning import (
    CIFAR10DataModule,
    load_estimator,
    save_estimator,
)
from eqrestore_lightning.nn import Estimator, build_preset


def main(
    data: Path = Path("data"),
    panoramas: Path = Path("data/panoramas"),
    photographs: Path | None = None,
    test_photographs: Path | None = None,
    output: Path = Path("outputs/photo"),
    weights: str | None = None,
    minutes: float = 60.0,
    learning_rate: float = 5e-3,
    count: int = 2_000,
    tables: bool = True,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds CIFAR-10.
        panoramas: Folder of the panoramas.
        photographs: Folder to train on, instead of CIFAR-10 and the photographs of packages.
        test_photographs: Folder to measure on, instead of the photographs of packages.
        output: Folder for weights and tables.
        weights: Where to start: bundled weights or a file; by default fresh weights.
        minutes: How long to train; 0 to measure only.
        learning_rate: Of AdamW.
        count: Test crops of each size.
        tables: Whether to print the tables.
        seed: Decides everything random.
    """
    settings = {"weights": weights, "minutes": minutes, "learning_rate": learning_rate}
    run = Run("photo", output, seed=seed, config=settings)
    L.seed_everything(seed, verbose=False)
    estimator = load_estimator(weights) if weights else build_preset("photo", 3, ())
    small = None if photographs else cifar10(data)
    if minutes > 0:
        paths = (
            list_photographs(photographs)
            if photographs
            else packaged_photographs(TRAINING, panoramas, TRAINING_PANORAMAS)
        )
        images = None if small is None else small["train"]
        estimator = train_for(
            minutes,
            estimator,
            Batches(images, paths, seed=1_000 * seed + rank()),
            seed=seed,
            learning_rate=learning_rate,
            weight_decay=1e-2,
        )
    if not is_rank_zero():  # evaluate in one process
        return
    if minutes > 0:
        save_estimator(
            estimator, output / "photo.safetensors", metadata={"notes": json.dumps(origin())}
        )
    if tables:
        paths = (
            list_photographs(test_photographs)
            if test_photographs
            else packaged_photographs(TEST, panoramas, TEST_PANORAMAS)
        )
        images = None if small is None else small["test"]
        for title, rows in measure(estimator.eval(), images, paths, count).items():
            run.add_table(title, list(rows))
    run.close()


def cifar10(root: Path) -> dict[str, Tensor]:
    """Read CIFAR-10."""
    module = CIFAR10DataModule(root, padding=0)
    module.setup()
    return {split: module.dataset(split).images for split in ("train", "test")}


def measure(
    estimator: Estimator, small: Tensor | None, paths: list[Path], count: int
) -> dict[str, Iterator[Row]]:
    """Return the rows of every table, by title; they are measured when they are asked for."""
    compared = restorers(estimator)
    tables = {
        "restored exactly, %": size_rows(compared, small, paths, count),
        "by photograph, 64 × 64": source_rows(compared, paths, 64, count // 8),
        "by photograph, 224 × 224": source_rows(compared, paths, 224, count // 8),
        "saved as JPEG before the shift": jpeg_rows(compared, paths, count // 4),
        "resized before the shift": resized_rows(compared, paths, count // 4),
        "a camera that moves": camera_rows(estimator, paths, count),
        "invariance": invariance_rows(estimator, small, paths),
    }
    if small is not None:
        tables["gate"] = gate_rows(estimator, small, paths, count)
    return tables


if __name__ == "__main__":
    auto_cli(main)
