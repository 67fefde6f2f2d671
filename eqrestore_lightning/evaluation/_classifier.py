"""What `evaluate` gets from others: labeled images, and the logits of a classifier."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MANY = 0.25  # of the answers: classes that no image has
_FEW = 20  # images, from whose classes nothing can be said about others


def labeled_images(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels, and say what is wrong with a batch that is something else."""
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            raise ValueError(
                "Expected images of one size in each batch; resize them, or load one at a time "
                "(batch_size=1)."
            ) from error
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(
                f"Expected `batches` to hold pairs of images and labels, but got a "
                f"{type(batch).__name__}"
                + (f" of {len(batch)} parts." if isinstance(batch, tuple | list) else ".")
            )
        images, labels = batch
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
            raise TypeError(
                f"Expected images and labels to be tensors, but got {type(images).__name__} and "
                f"{type(labels).__name__}."
            )
        if labels.shape != (len(images),):
            raise ValueError(
                f"Expected labels of shape (batch,), ({len(images)},), "
                f"but got {tuple(labels.shape)}."
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"Expected labels to be integers, but got {labels.dtype}.")
        yield images, labels


class Classifier:
    """A classifier, and which of its classes each label means."""

    def __init__(self, network: nn.Module, labels: Sequence[int] | None) -> None:
        self.network = network
        self.labels = None if labels is None else torch.as_tensor(labels)
        parameters = [each for each in network.parameters() if each.is_floating_point()]
        self.device = parameters[0].device if parameters else torch.device("cpu")
        self.dtype = parameters[0].dtype if parameters else None
        self.num_labels = 0
        self.answers = torch.zeros(0, dtype=torch.int64)  # how often each class was the answer

    def classes(self, targets: Tensor) -> Tensor:
        """Return the number among the logits of the class of each image."""
        targets = targets.to(self.device, torch.int64)
        if self.labels is None:
            return targets
        if int(targets.min()) < 0 or int(targets.max()) >= len(self.labels):
            raise ValueError(
                f"Expected labels from 0 to {len(self.labels) - 1}, the places of `labels`, "
                f"but got {int(targets.min())} to {int(targets.max())}."
            )
        return self.labels.to(self.device, torch.int64)[targets]

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits `(batch, num_classes)`."""
        answer: Any = self.network(x.to(self.dtype) if self.dtype and x.is_floating_point() else x)
        if isinstance(answer, Mapping):
            answer = answer.get("logits")
        elif isinstance(answer, tuple | list):
            answer = next(iter(answer), None)
        logits = getattr(answer, "logits", answer)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"Expected `classifier` to return logits, but got {type(logits).__name__}."
            )
        if logits.ndim != 2 or len(logits) != len(x):
            raise ValueError(
                f"Expected `classifier` to return logits of shape (batch, num_classes), "
                f"but got {tuple(logits.shape)} for {len(x)} images."
            )
        if not logits.is_floating_point():
            raise TypeError(f"Expected floating logits, but got {logits.dtype}.")
        if logits.isnan().any():
            raise ValueError("Expected `classifier` to return numbers, but got NaN.")
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def unmoved(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return logits of unmoved images, and check that every label has one."""
        logits = self(x)
        count, least, largest = logits.shape[1], int(targets.min()), int(targets.max())
        if least < 0 or largest >= count:
            raise ValueError(
                f"Expected labels from 0 to {count - 1}, as there are {count} logits, "
                f"but got {least} to {largest}."
            )
        self.num_labels = max(self.num_labels, largest + 1)
        answers = logits.argmax(1).bincount(minlength=count).cpu()
        self.answers = answers if len(self.answers) == 0 else self.answers + answers
        return logits

    def warn_of_other_classes(self) -> None:
        """Warn if many answers are classes that no label names."""
        beyond = float(self.answers[self.num_labels :].sum() / self.answers.sum())
        if self.labels is None and beyond > _MANY and self.answers.sum() >= _FEW:
            warnings.warn(
                f"The images have {self.num_labels} classes, the classifier has "
                f"{len(self.answers)}, and {100 * beyond:.0f} % of its answers for unmoved images "
                f"are classes that no image has. Say with `labels=[...]` which number each class "
                f"of the images has among the logits.",
                stacklevel=3,
            )
