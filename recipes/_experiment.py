"""The recipes of one data set: a classifier, a restorer, and how they stand shifts together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
from _figures import animate, draw_accuracy, draw_restored
from _measure import gate_rows, shifts_found, spread
from _recipe import Recipe, is_rank_zero
from torch import Tensor, nn

from eqrestore_lightning import (
    ClassifierModule,
    RestorerModule,
    RestoreTransform,
    TranslationEstimator,
    evaluate_shifts,
)
from eqrestore_lightning.classifiers import Architecture
from eqrestore_lightning.data import InMemoryDataModule
from eqrestore_lightning.training import Restorer, load_classifier


@dataclass
class Experiment:
    """One data set, one classifier, one restorer.

    Attributes:
        name: Name of the recipe, the W&B run and the bundled weights.
        command: The command that runs it.
        data: Where images come from.
        network: Arguments of `TranslationEstimator`.
        classifier_epochs: Epochs of the classifier.
        restorer_epochs: Epochs of the restorer.
        learning_rate: Of the restorer.
        output: Folder for everything written.
        seed: Decides everything random.
        reference: Published accuracies for shifts of up to 0 … 8 pixels, percent.
        restorer_data: Where the restorer's training images come from, if not from `data`.
        rules: Estimates of shifts that need no training, by name, for the same table.
        architecture: Of the classifier.
        classifier: A trained one instead, `.ckpt` or `package.module:name`.
        num_images: How many test images are classified; shifts are looked for on all.
        max_shifts: Sizes of shifts, pixels.
    """

    name: str
    command: str
    data: InMemoryDataModule
    network: dict[str, Any]
    classifier_epochs: int
    restorer_epochs: int
    learning_rate: float
    output: Path
    seed: int
    reference: Mapping[str, Sequence[float]] = field(default_factory=dict)
    restorer_data: InMemoryDataModule | None = None
    rules: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    architecture: Architecture = "small_cnn"
    classifier: str | None = None
    num_images: int | None = None
    max_shifts: Sequence[int] = tuple(range(9))

    def run(self, *, bundle: bool = False) -> None:
        """Train, measure, draw and log; `bundle` puts the weights into the package."""
        recipe = Recipe(
            self.name,
            self.output,
            command=self.command,
            seed=self.seed,
            tags=["translation"],
            config={
                "network": self.network,
                "architecture": self.architecture,
                "classifier_epochs": self.classifier_epochs,
                "restorer_epochs": self.restorer_epochs,
                "learning_rate": self.learning_rate,
                "batch_size": self.data.batch_size,
            },
        )
        classifier = self._classifier(recipe)
        L.seed_everything(self.seed, verbose=False)
        estimator = TranslationEstimator(
            self.data.in_channels, self.data.spatial_size, **self.network
        )
        restorer = RestorerModule(estimator, learning_rate=self.learning_rate, seed=self.seed)
        source = self.restorer_data or self.data
        seconds = recipe.fit("restorer", restorer, source, epochs=self.restorer_epochs)
        if is_rank_zero():  # judge on one device: several would repeat images
            self._judge(recipe, classifier.cpu(), estimator.cpu(), seconds, bundle=bundle)
            recipe.close()

    def _classifier(self, recipe: Recipe) -> nn.Module:
        if self.classifier is not None:
            return load_classifier(self.classifier)
        L.seed_everything(self.seed, verbose=False)
        module = ClassifierModule(
            self.data.in_channels, self.data.num_classes, architecture=self.architecture
        )
        recipe.fit("classifier", module, self.data, epochs=self.classifier_epochs)
        return module

    def _judge(
        self,
        recipe: Recipe,
        classifier: nn.Module,
        estimator: TranslationEstimator,
        seconds: float,
        *,
        bundle: bool,
    ) -> None:
        restore = RestoreTransform(estimator)
        every = self.data.dataset("test")
        test = spread(every, self.num_images)
        restorers: dict[str, Restorer] = {"restored": restore, **self.rules}
        batch_size = self.data.batch_size
        results = evaluate_shifts(
            classifier,
            test.loader(batch_size),
            restorers=restorers,
            max_shifts=self.max_shifts,
            seed=self.seed,
        )
        recipe.add_results("shifts", results, reference=self.reference)
        zeros = evaluate_shifts(
            classifier,
            test.loader(batch_size),
            restorers={"restored": restore},
            max_shifts=self.max_shifts,
            kind="zeros",
            seed=self.seed,
        )
        recipe.add_results("zero-fill shifts", zeros)
        recipe.add_rows("gate", gate_rows(classifier, test, restore, max_shift=8))
        found = shifts_found(every, restore.estimate)
        metrics = {
            "exact": found["exact, %"] / 100,
            "within_1_pixel": found["≤ 1 px, %"] / 100,
            "accuracy": results[0].accuracy,
            "accuracy_restored": results[1].accuracy,
        }
        recipe.save_weights(
            self.name, estimator, metrics=metrics, training_seconds=seconds, bundle=bundle
        )
        recipe.say(
            f"Restorer: {sum(weight.numel() for weight in estimator.parameters())} weights, trained"
            f" in {seconds:.0f} s; shifts of test images found exactly {found['exact, %']:.2f} %, "
            f"within 1 pixel {found['≤ 1 px, %']:.2f} %."
        )
        curves = {"": [result for result in results if result.restorer not in self.rules]}
        pictures = [
            draw_restored(
                self.output / "restored.png",
                test.images[:8],
                restore,
                classifier.eval(),
                seed=self.seed,
            ),
            draw_accuracy(self.output / "accuracy.png", curves, self.name),
        ]
        if test.images.ndim == 4:
            pictures.append(animate(self.output / "restored.gif", test.images[:6], restore))
        for picture in pictures:
            recipe.add_picture(picture)
