"""Turn 360° panoramas back to a common forward direction: a shift of the width is a turn (yaw).

A panorama wraps around along its width only, so the estimator runs with `axes=(-1,)`. It has no
seam: only its content can tell what is forward. One estimator is trained for each scene, on the
given forward direction of the other scenes; the table reports by how much it is off on the scene
that it has not seen. A handful of scenes does not teach what forward means in general. What holds
for any weights is exact: all 1,024 yaws of a scene are restored to the same image, bit for bit.

    lightning run recipes/panoramas.py --data data/panoramas

Expects equirectangular images of one size, whose height is a multiple of 16.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from _run import DATA, Run, command_line
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from eqrestore_lightning import RestorerModule, RestoreTransform, TranslationEstimator
from eqrestore_lightning.data._image_files import find_images, read_image
from eqrestore_lightning.motions import Shift

BANDS = 16  # rows of an image are averaged to so many
NETWORK: dict[str, Any] = {
    "axes": (-1,),
    "hidden_channels": [8] * 4,
    "kernel_size": [9, 9, 9, 9, 1],
    "dilation": [4, 8, 16, 32, 1],
    "bias": True,
    "skip": True,
}


def main(
    data: Path = DATA / "panoramas",
    output: Path = Path("outputs/panoramas"),
    epochs: int = 15,
    yaws: int = 1024,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder of panoramas.
        output: Folder for tables and W&B's files.
        epochs: Passes over the training scenes, each of ten steps.
        yaws: Number of yaws that are restored of each scene; by default every column of 1,024.
        seed: Seed of weights and noise.
    """
    run = Run("panoramas", output, seed=seed, config={"network": NETWORK, "epochs": epochs})
    files = find_images(data)
    scenes = torch.stack([read_image(path) for path in files])
    rows = []
    for number, path in enumerate(files):
        others = torch.arange(len(files)) != number
        restore = RestoreTransform(train(bands(scenes[others]), epochs, seed, output))
        rows.append({"scene": path.stem, **measure(restore, scenes[number], yaws)})
        run.say(f"{rows[-1]}")
    run.add_table("scenes not trained on", rows)
    run.close()


def bands(scenes: Tensor) -> Tensor:
    """Average the rows of uint8 panoramas in groups, to float from 0 to 1: exact in float32."""
    height = scenes.shape[-2]
    if height % BANDS:
        raise ValueError(f"Expected a height that is a multiple of {BANDS}, but got {height}.")
    shape = (*scenes.shape[:-2], BANDS, height // BANDS, scenes.shape[-1])
    return scenes.reshape(shape).float().mean(-2) / 255


def train(scenes: Tensor, epochs: int, seed: int, output: Path) -> TranslationEstimator:
    """Train an estimator on panoramas in their given direction, in changing light."""
    L.seed_everything(seed, verbose=False)
    estimator = TranslationEstimator(scenes.shape[1], tuple(scenes.shape[2:]), **NETWORK)
    light = 0.7 + 0.6 * torch.rand(10, len(scenes), 1, 1, 1)
    noise = 0.03 * torch.randn(10, *scenes.shape)
    lit = (scenes * light + noise).clamp(0, 1).flatten(0, 1)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=output,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    module = RestorerModule(estimator, learning_rate=3e-3, weight_decay=1e-2, seed=seed)
    trainer.fit(module, DataLoader(TensorDataset(lit), batch_size=len(scenes), shuffle=True))
    return estimator


@torch.no_grad()
def measure(restore: RestoreTransform, scene: Tensor, yaws: int) -> dict[str, Any]:
    """Compare a scene that was not trained on with all its turned copies, restored."""
    width = scene.shape[-1]
    turn = Shift(axes=(-1,))
    forward = restore.find(bands(scene)).motion["shift"]
    expected = turn.undo(scene.unsqueeze(0), {"shift": forward.unsqueeze(0)})
    different = 0
    for part in torch.split(torch.arange(yaws) * width // yaws, 32):
        turned = turn.apply(scene.expand(len(part), *scene.shape), {"shift": part.unsqueeze(1)})
        restored = turn.undo(turned, restore.find(bands(turned)).motion)
        different += int((restored != expected).sum())
    return {
        "forward direction off by, degrees": abs(float(forward) * 360 / width),
        "yaws": yaws,
        "pixels that differ between yaws": different,
    }


if __name__ == "__main__":
    command_line(main)
