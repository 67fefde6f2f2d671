"""Turned digits in front of a small CNN that saw upright ones: rules and trained weights, untraced.

Each digit is turned by any angle, in several ways, and saved again as JPEG: what that leaves behind
may not decide. Compared are the rules that need no training, the least entropy of the CNN's own
answers for 36 turned copies (`ConfidenceEstimator`), the average of these answers,
`mnist-rotation`, and the surest of its four best candidates. MNIST is moved by a fraction of a
pixel, as in `rotated_mnist.py`.

    python recipes/turned_digits.py --data data
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _data import CenteredMNIST, spread, turned_ways
from _run import DATA, Run, command_line
from torch import Tensor, nn

from eqrestore_lightning import RestoreTransform, Turn
from eqrestore_lightning.evaluation._restorers import Restorer
from eqrestore_lightning.evaluation._rules import confidence_rule, turn_rules
from eqrestore_lightning.nn import ConfidenceEstimator


def main(
    data: Path = DATA,
    download: bool = False,
    output: Path = Path("outputs/turned_digits"),
    epochs: int = 1,
    num_images: int = 500,
    num_angles: int = 36,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that contains, or is to contain, MNIST/raw; by default EQRESTORE_DATA, or data.
        download: Download MNIST if it is missing.
        output: Folder for tables and W&B's files.
        epochs: Epochs of the classifier.
        num_images: How many of the test images to evaluate on.
        num_angles: How many turned copies of a digit the classifier looks at.
        seed: Seed of everything random.
    """
    config = {"epochs": epochs, "num_images": num_images, "num_angles": num_angles}
    run = Run("turned_digits", output, seed=seed, tags=["rotation"], config=config)
    source = CenteredMNIST(data, download=download, seed=seed)
    classifier = run.fit_classifier("classifier", source, epochs=epochs).eval()
    test = spread(source.dataset("test"), num_images)
    generator = torch.Generator().manual_seed(seed)
    angle = Turn().draw(len(test), (32, 32), generator=generator)["angle"]
    states = {"upright": (test.images, 0 * angle)}
    states |= {name: (x, angle) for name, x in turned_ways(test.images, angle).items()}
    answer = answers(classifier, source.dataset("train").images[:5000].float() / 255, num_angles)
    answer["told the angle"] = classifier
    rows = []
    with torch.no_grad():
        for name, classify in answer.items():
            row: dict[str, str | float] = {"": name}
            for state, (images, by) in states.items():
                x = images.float() / 255
                x = Turn().undo(x, {"angle": by}) if name == "told the angle" else x
                right = classify(x).argmax(1) == test.labels
                row[f"{state}, %"] = 100 * float(right.double().mean())
            rows.append(row)
            run.say(str(row))
    run.add_table(f"accuracy on {len(test)} digits, by how they were turned", rows)
    run.close()


def answers(
    classifier: nn.Module, upright: Tensor, num_angles: int
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what is compared: from images to logits or probabilities, by name."""
    trained = RestoreTransform("mnist-rotation")
    estimator = ConfidenceEstimator(classifier, in_channels=1, num_angles=num_angles)
    rules: dict[str, Restorer] = {
        **turn_rules(upright),
        **confidence_rule(classifier, in_channels=1, num_angles=num_angles),
        "mnist-rotation": trained,
    }
    return {
        "no restorer": classifier,
        **{name: partial(restored_logits, classifier, rule) for name, rule in rules.items()},
        f"average of {num_angles} copies": lambda x: estimator.answers(x).softmax(2).mean(1),
        "mnist-rotation, the surest of four": partial(surest, classifier, trained),
    }


def restored_logits(
    classifier: nn.Module, restore: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Classify restored images."""
    logits: Tensor = classifier(restore(x))
    return logits


def surest(
    classifier: nn.Module, restore: RestoreTransform, x: Tensor, *, candidates: int = 4
) -> Tensor:
    """Classify images as that of their best candidates of which restorer and classifier are surest.

    A candidate's log-probability is how far it is behind the best one, less four times the entropy
    of the classifier's answer.
    """
    found = restore.find(x, candidates=candidates)
    views = (found, *found.rivals)
    logits = torch.stack([classifier(restore.undo(x, view)) for view in views], 1)
    behind = torch.stack([torch.zeros_like(found.margin), *(r.margin for r in found.rivals)], 1)
    log_probability = logits.log_softmax(-1)
    entropy = -(log_probability.exp() * log_probability).sum(-1)
    best = (behind - 4 * entropy).argmax(1)
    return logits[torch.arange(len(x)), best]


if __name__ == "__main__":
    command_line(main)
