"""Restore MNIST in front of a small CNN, beside the paper's figures.

MNIST is zero-padded to 32 × 32. Trains the classifier and the restorer, and prints the classifier's
accuracy under circular shifts of up to 0 … 8 pixels, with and without the restorer, beside the
first row of the paper's Table 1 (whose MNIST was resized, not padded).

    lightning run recipes/mnist.py --data data

Takes 4 minutes on 2 CPU cores (AMD EPYC).
"""

from pathlib import Path

from _experiment import Experiment
from _mnist import DATA, MirroredMNIST
from jsonargparse import auto_cli

from eqrestore_lightning import MNISTDataModule

PAPER = {
    "paper: no restorer": [98.89, 98.21, 95.41, 87.07, 76.61, 62.9, 51.33, 41.1, 35.7],
    "paper: restored": [98.59] * 9,
}


def main(
    data: Path = DATA,
    download: bool = False,
    output: Path = Path("outputs/mnist"),
    classifier_epochs: int = 8,
    restorer_epochs: int = 40,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds, or shall hold, MNIST/raw; by default what EQRESTORE_DATA names,
            or data.
        download: Download MNIST if it is not there.
        output: Folder for weights, pictures, the table and W&B's files.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        seed: Decides everything random.
        bundle: Put the weights into the package, as `mnist`.
    """
    Experiment(
        name="mnist",
        command=f"lightning run recipes/mnist.py --seed {seed} --bundle true",
        data=MNISTDataModule(data, download=download, seed=seed),
        restorer_data=MirroredMNIST(data, download=download, seed=seed),
        network={
            "hidden_channels": [6],
            "kernel_size": ["full", 1],
            "bias": True,
            "separable": True,
        },
        classifier_epochs=classifier_epochs,
        restorer_epochs=restorer_epochs,
        learning_rate=1e-2,
        output=output,
        seed=seed,
        reference=PAPER,
    ).run(bundle=bundle)


if __name__ == "__main__":
    auto_cli(main)
