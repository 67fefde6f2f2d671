"""Restore 3D-MNIST in front of a 3-D CNN: volumes of 32³ voxels, shifted along three axes.

Trains the classifier and the restorer on digits extruded from MNIST (or on the published HDF5 file,
`--data full_dataset_vectors.h5`), and prints the classifier's accuracy with and without the
restorer, which the paper shows as pictures only.

    lightning run recipes/mnist3d.py --data data

Takes 18 minutes on one core of an Intel Xeon shared with other work, 100 volumes classified.
"""

from pathlib import Path

from _experiment import Experiment
from _recipe import DATA
from _rules import blank_border_rule, first_harmonic_phase
from jsonargparse import auto_cli

from eqrestore_lightning import MNIST3DDataModule, RestoreTransform


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
        data: Folder that holds, or shall hold, MNIST/raw, or the published HDF5 file; by default
            what EQRESTORE_DATA names, or data.
        download: Download MNIST if it is not there.
        classifier: A trained one instead, .ckpt or package.module:name.
        output: Folder for weights, pictures, tables and W&B's files.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        num_images: How many test volumes are classified; shifts are looked for on all 2,000.
        seed: Decides everything random.
        bundle: Put the weights into the package, as `mnist3d`.
    """
    source = MNIST3DDataModule(data, download=download, batch_size=32, seed=seed)
    rules = {
        "first-harmonic phase": first_harmonic_phase,
        "blank border": RestoreTransform(blank_border_rule(1, source.spatial_size, 8)).estimate,
    }
    Experiment(
        name="mnist3d",
        command=f"lightning run recipes/mnist3d.py --seed {seed} --bundle true",
        data=source,
        rules=rules,
        network={
            "hidden_channels": [4],
            "kernel_size": ["full", 1],
            "bias": True,
            "separable": True,
        },
        architecture="small_cnn_3d",
        classifier=classifier,
        classifier_epochs=classifier_epochs,
        restorer_epochs=restorer_epochs,
        learning_rate=1e-2,
        output=output,
        num_images=num_images,
        max_shifts=(0, 2, 4, 8),
        seed=seed,
    ).run(bundle=bundle)


if __name__ == "__main__":
    auto_cli(main)
