"""Restore scikit-learn's digits in front of a small CNN: nothing to download.

Trains a classifier and a restorer, and prints the classifier's accuracy under shifts of up to
0 … 8 pixels, with and without the restorer. Read this recipe first: the others do the same with
other data.

    lightning run recipes/digits.py

Takes 26 s on 2 CPU cores (Intel Xeon).
"""

from pathlib import Path

import lightning as L
from _figures import animate, draw_restored
from _run import Run, command_line, is_rank_zero

from eqrestore_lightning import (
    ClassifierModule,
    DigitsDataModule,
    RestorerModule,
    RestoreTransform,
    Shift,
    build_preset,
    evaluate,
)
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.evaluation._found import gate_rows, shifts_found


def main(
    output: Path = Path("outputs/digits"),
    classifier_epochs: int = 20,
    restorer_epochs: int = 100,
    seed: int = 0,
    bundle: bool = False,
) -> None:
    """Run the recipe.

    Args:
        output: Folder for weights, pictures, tables and W&B's files.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        seed: Seed of everything random.
        bundle: Copy the weights into the package, as `digits`.
    """
    epochs = {"classifier_epochs": classifier_epochs, "restorer_epochs": restorer_epochs}
    run = Run("digits", output, seed=seed, tags=["translation"], config=epochs)
    data = DigitsDataModule(batch_size=128, seed=seed)

    L.seed_everything(seed, verbose=False)
    classifier = ClassifierModule(data.in_channels, data.num_classes)
    run.fit("classifier", classifier, data, epochs=classifier_epochs)

    L.seed_everything(seed, verbose=False)
    estimator = build_preset("centered", data.in_channels, data.spatial_size)
    module = RestorerModule(estimator, learning_rate=1e-2, seed=seed)
    run.fit("restorer", module, data, epochs=restorer_epochs)
    if not is_rank_zero():  # evaluate in one process: several would repeat images
        return

    test = data.dataset("test")
    restore = RestoreTransform(estimator)
    circular, zeros = (
        evaluate(
            classifier,
            test.loader(128),
            restorers={"restored": restore},
            motions=shift_motions(range(9), fill=fill),
            seed=seed,
        )
        for fill in ("circular", "zeros")
    )
    run.add_evaluation("circular shifts", circular, picture="accuracy.png")
    run.add_evaluation("zero-fill shifts", zeros)
    run.add_table("gate", gate_rows(classifier, test, restore, motion=Shift(max_shift=8)))
    found = shifts_found(test, restore)
    run.add_table("shifts found on test images", [found])
    run.add_picture(draw_restored(output / "restored.png", test.images[:8], restore, classifier))
    run.add_picture(animate(output / "restored.gif", test.images[:6], restore))
    exact, near = (share / 100 for share in found.values())
    metrics = {"exact": exact, "within_1_pixel": near}
    run.save_weights("digits", estimator, stage="restorer", metrics=metrics, bundle=bundle)
    run.close()


if __name__ == "__main__":
    command_line(main)
