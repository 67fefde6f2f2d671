"""Restore 3D-MNIST in front of a 3-D CNN: volumes of 32³ voxels, shifted along three axes.

Trains the classifier and the restorer on digits extruded from MNIST (or on the published HDF5 file,
`--data full_dataset_vectors.h5`), and prints the classifier's accuracy with and without the
restorer; the paper shows pictures only.

    lightning run recipes/mnist3d.py --data data

Takes 18 minutes on one core of an Intel Xeon shared with other work, 100 volumes classified.
"""

from pathlib import Path

from _run import DATA, Run, command_line, is_rank_zero
from mnist import report

from eqrestore_lightning import MNIST3DDataModule
from eqrestore_lightning.evaluation._rules import border_rule, harmonic_rule


def main(
    data: Path = DATA,
    download: bool = False,
    classifier: str | None = None,
    output: Path = Path("outputs/mnist3d"),
    classifier_epochs: int = 4,
    restorer_epochs: int = 3,
    num_images: int = 200,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains, or is to contain, MNIST/raw, or the published HDF5 file; by
            default EQRESTORE_DATA, or data.
        download: Download MNIST if it is missing.
        classifier: A trained one instead, .ckpt or package.module:name.
        output: Folder for weights, pictures, tables and W&B's files.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        num_images: How many test volumes are classified; shifts are looked for on all 2,000.
        seed: Seed of everything random.
        bundle: Copy the weights into the package, as `mnist3d`.
    """
    run = Run(
        "mnist3d",
        output,
        seed=seed,
        tags=["translation"],
        config={
            "classifier": classifier or "trained here",
            "classifier_epochs": classifier_epochs,
            "restorer_epochs": restorer_epochs,
            "num_images": num_images,
        },
    )
    volumes = MNIST3DDataModule(data, download=download, batch_size=32, seed=seed)
    network = run.fit_classifier(
        "classifier",
        volumes,
        epochs=classifier_epochs,
        given=classifier,
        architecture="small_cnn_3d",
    )
    restore = run.fit_restorer(
        "restorer", volumes, "centered", epochs=restorer_epochs, hidden_channels=[4]
    )
    if is_rank_zero():  # evaluate in one process: several would repeat volumes
        rules = {**harmonic_rule(), **border_rule(1, volumes.spatial_size, 8)}
        report(
            run,
            volumes,
            network,
            restore,
            rules,
            sizes=(0, 2, 4, 8),
            num_images=num_images,
            bundle=bundle,
        )


if __name__ == "__main__":
    command_line(main)
