"""The command `eqrestore fit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from eqrestore_lightning.nn import TrainableEstimator

Network: TypeAlias = Literal["seam", "paper", "rotation", "roto-translation"]


def fit(
    images: Path,
    output: Path,
    image_size: int | None = None,
    grayscale: bool = False,
    network: Network = "seam",
    epochs: int = 20,
    batch_size: int = 64,
    max_shift: int = 0,
    fill: Literal["circular", "zeros"] = "zeros",
    corners: Literal["zeros", "border", "reflection"] = "zeros",
    seed: int = 0,
) -> None:
    """Train a restorer on the images of a folder.

    Beside the weights lie restored.png, which shows what they do, and a checkpoint of the last
    epoch, which restores as well and is there if training is interrupted.

    Args:
        images: Folder of images, with or without class folders, or with train, val and test.
        output: File to write the weights to, ending in .safetensors.
        image_size: Resize and cut images to squares of this many pixels; needed if sizes differ.
        grayscale: Read one channel instead of three.
        network: "seam" (16 channels of local filters, then sums along rows and columns: the best
            known for photographs) or "paper" (6 layers, kernel 9, one channel) for shifts;
            "rotation" for images turned by any angle, "roto-translation" for images turned and
            shifted.
        epochs: Times that training goes through the images.
        batch_size: Images in a step, over all processes; fewer if there are fewer for training.
        max_shift: Train on images shifted by up to this many pixels; circular shifts need none, and
            "rotation" takes none.
        fill: What enters where a shifted image leaves, circular or zeros.
        corners: What enters at the corners of turned images, in training and when they are
            restored: zeros, their border or their reflection. From photographs between corners of
            zeros "roto-translation" would learn to look for the corners.
        seed: Decides weights, order, splits, shifts and angles.
    """
    import lightning as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from eqrestore_lightning.data import ImageFolderDataModule
    from eqrestore_lightning.training import RestorerModule, trainer_options
    from eqrestore_lightning.weights import save_estimator

    if output.suffix != ".safetensors":
        raise ValueError(f"Expected `output` to end in .safetensors, but got {output}.")
    options = trainer_options()
    pl.seed_everything(seed)
    data = ImageFolderDataModule(
        images, image_size=image_size, grayscale=grayscale, batch_size=batch_size, seed=seed
    )
    num_processes = options["devices"] * options["num_nodes"]
    data.batch_size = min(batch_size, len(data.dataset("train")) // num_processes * num_processes)
    module = RestorerModule(
        _build(network, data.in_channels, data.spatial_size, corners),
        learning_rate=3e-3,
        max_shift=max_shift,
        fill=fill,
        seed=seed,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=output.parent,
        logger=False,
        callbacks=[
            ModelCheckpoint(
                output.parent,
                filename=f"{output.stem}-last-epoch",
                enable_version_counter=False,
            )
        ],
        **options,
    )
    trainer.fit(module, datamodule=data)
    if trainer.is_global_zero:
        save_estimator(module.estimator.cpu(), output, metadata={"images": str(images)})
        print(f"Wrote {output} and {output.parent / 'restored.png'}.")  # noqa: T201
    trainer.test(module, datamodule=data)


_SEAM: dict[str, Any] = {
    "hidden_channels": [16, 16, 16, 16, 16],
    "kernel_size": [3, 3, 3, "full", 3, 1],
    "dilation": [1, 1, 2, 1, 1, 1],
    "bias": True,
    "skip": True,
    "separable": [False, False, False, True, False, False],
}
_ROTATION: dict[str, Any] = {
    "num_angles": 72,
    "hidden_channels": [32] * 6,
    "kernel_size": [9] * 6 + [1],
    "dilation": [1, 1, 2, 2, 4, 4, 1],
    "bias": True,
    "skip": True,
}


def _build(
    network: Network, in_channels: int, size: tuple[int, ...], corners: str
) -> "TrainableEstimator":
    from eqrestore_lightning.nn import (
        RotationEstimator,
        RotoTranslationEstimator,
        TranslationEstimator,
    )

    rotation = {**_ROTATION, "num_radii": max(1, min(size) // 2), "fill": corners}
    if network == "rotation":
        return RotationEstimator(in_channels, size, **rotation)
    if network == "roto-translation":
        return RotoTranslationEstimator(in_channels, size, translation=_SEAM, rotation=rotation)
    return TranslationEstimator(in_channels, size, **(_SEAM if network == "seam" else {}))
