"""Pictures of what an estimator learned."""

from pathlib import Path
from typing import Any

import lightning
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from torchvision.utils import make_grid

from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.motions import Motion
from eqrestore_lightning.nn import Estimator


class RestoredImageGrid(lightning.Callback):
    """Draw images as they are, moved, and restored, when training ends.

    Writes a picture into the trainer's log folder, and passes it, under its name, to every logger
    that has `log_image`, such as `WandbLogger`. Draws 2-D images of one or three channels only.

    Args:
        num_images: How many images of the first validation batch, or else training batch.
        motion: How to move them; by default any motion that the estimator finds.
        seed: Determines the motions.
        filename: Of the picture.

    Raises:
        ValueError: If `num_images` is below 1.

    Source: Figure 3 of the paper.
    """

    def __init__(
        self,
        *,
        num_images: int = 8,
        motion: Motion | None = None,
        seed: int = 0,
        filename: str = "restored.png",
    ) -> None:
        if num_images < 1:
            raise ValueError(f"Expected `num_images` to be at least 1, but got {num_images}.")
        self.num_images = num_images
        self.motion = motion
        self.seed = seed
        self.filename = filename

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Draw, save and log the picture."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # every process must take part
        estimator = pl_module.estimator
        drawable = estimator.num_spatial_dims == 2 and estimator.in_channels in (1, 3)
        if not drawable or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        loaders = CombinedLoader(trainer.val_dataloaders or trainer.train_dataloader).flattened
        batch = next(iter(loaders[0]), None)
        if batch is None:
            return
        images = batch if isinstance(batch, Tensor) else batch[0]
        grid = restored_image_grid(
            estimator,
            images[: self.num_images].to(pl_module.device),
            motion=self.motion,
            seed=self.seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        with whole_file(path) as part:
            _with_names(grid).save(part)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(self.filename, [str(path)])


@torch.no_grad()
def restored_image_grid(
    estimator: Estimator, images: Tensor, *, motion: Motion | None = None, seed: int = 0
) -> Tensor:
    """Arrange images as they are, moved, and restored in three rows.

    Args:
        estimator: Finds the motions.
        images: Floating from 0 to 1, of shape `(batch, channels, height, width)`.
        motion: How to move them; by default any motion that the estimator finds.
        seed: Determines the motions.

    Returns:
        One image on the CPU, floating of shape `(3, height, width)`.

    >>> from eqrestore_lightning.nn import build_preset
    >>> restored_image_grid(build_preset("border", 1, (6, 9)), torch.rand(4, 1, 6, 9)).shape
    torch.Size([3, 26, 46])
    """
    generator = torch.Generator().manual_seed(seed)
    motion = estimator.motion if motion is None else motion
    element = motion.draw(len(images), tuple(images.shape[2:]), generator=generator)
    moved = motion.apply(images, {name: v.to(images.device) for name, v in element.items()})
    found = estimator.locate(estimator.exact_scores(moved), moved)
    restored = estimator.motion.undo(moved, found)
    rows = torch.cat([images, moved, restored]).float().cpu()
    grid: Tensor = make_grid(rows, nrow=len(images), pad_value=0.5)
    return grid


def _with_names(grid: Tensor) -> PIL.Image.Image:
    """Return the picture with names beside its rows, small images enlarged."""
    rows = TF.to_pil_image(grid)
    times = max(1, 288 // rows.height)
    rows = rows.resize((times * rows.width, times * rows.height), PIL.Image.Resampling.NEAREST)
    margin = 80
    picture = PIL.Image.new("RGB", (rows.width + margin, rows.height), "white")
    picture.paste(rows, (margin, 0))
    draw, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(size=14)
    for number, name in enumerate(("original", "moved", "restored")):
        place = (margin - 8, (2 * number + 1) * rows.height / 6)
        draw.text(place, name, fill="black", font=font, anchor="rm")
    return picture
