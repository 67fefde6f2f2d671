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
from eqrestore_lightning.nn import Estimator

_NUM_IMAGES = 8
_ENLARGED = 288  # pixels, of the height up to which small pictures are enlarged
_MARGIN = 80  # pixels, for the names of the rows


class RestoredImageGrid(lightning.Callback):
    """Draw and log images as they are, moved, and restored, when training ends (Figure 3)."""

    def __init__(self, filename: str = "restored.png", images: Tensor | None = None) -> None:
        self.filename, self.images = filename, images

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Draw images, by default of validation, else of training; log under the file's name."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # every process must take part
        estimator = pl_module.estimator
        drawable = estimator.num_spatial_dims == 2 and estimator.in_channels in (1, 3)
        if not drawable or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        images = _first_images(trainer) if self.images is None else self.images
        if images is None:
            return
        grid = restored_image_grid(estimator, images[:_NUM_IMAGES].to(pl_module.device))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        with whole_file(path) as part:
            _with_names(grid).save(part)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(self.filename, [str(path)])


def _first_images(trainer: Any) -> Tensor | None:
    loaders = CombinedLoader(trainer.val_dataloaders or trainer.train_dataloader).flattened
    batch = next(iter(loaders[0]), None)
    images: Tensor | None = batch if batch is None or isinstance(batch, Tensor) else batch[0]
    return images


@torch.no_grad()
def restored_image_grid(estimator: Estimator, images: Tensor) -> Tensor:
    """Arrange images (floating, 0 to 1), the same moved, and restored in three rows, in one image.

    >>> from eqrestore_lightning.nn import build_preset
    >>> restored_image_grid(build_preset("border", 1, (6, 9)), torch.rand(4, 1, 6, 9)).shape
    torch.Size([3, 26, 46])
    """
    generator = torch.Generator().manual_seed(0)
    motion = estimator.motion
    element = motion.draw(len(images), tuple(images.shape[2:]), generator=generator)
    moved = motion.apply(images, {name: v.to(images.device) for name, v in element.items()})
    restored = motion.undo(moved, estimator.locate(estimator.exact_scores(moved), moved))
    rows = torch.cat([images, moved, restored]).float().cpu()
    grid: Tensor = make_grid(rows, nrow=len(images), pad_value=0.5)
    return grid


def _with_names(grid: Tensor) -> PIL.Image.Image:
    """Return the picture with names beside its rows, small images enlarged."""
    rows = TF.to_pil_image(grid)
    times = max(1, _ENLARGED // rows.height)
    rows = rows.resize((times * rows.width, times * rows.height), PIL.Image.Resampling.NEAREST)
    picture = PIL.Image.new("RGB", (rows.width + _MARGIN, rows.height), "white")
    picture.paste(rows, (_MARGIN, 0))
    draw, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(size=14)
    for number, name in enumerate(("original", "moved", "restored")):
        place = (_MARGIN - 8, (2 * number + 1) * rows.height / 6)
        draw.text(place, name, fill="black", font=font, anchor="rm")
    return picture
