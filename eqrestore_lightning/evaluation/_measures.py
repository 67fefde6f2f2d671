"""What `evaluate` measures; new measures are added here, or anywhere with `register_measure`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias, TypeVar

from torch import Tensor
from torchmetrics import MeanMetric, Metric

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.metrics import Consistency
from eqrestore_lightning.metrics._motion import motion_metrics
from eqrestore_lightning.motions import Element, Field, Motion


@dataclass(frozen=True)
class Outcome:
    """The outcome for one batch of images, each moved by two draws of one motion, and restored.

    Attributes:
        labels: Classes of the images, int64 of shape `(batch,)`.
        unmoved: Logits of the unmoved images without a restorer, `(batch, num_classes)`.
        first: Logits after the first draw, restored, of the same shape.
        second: Logits after the second draw, restored, of the same shape.
        found: What the restorer found after the first draw; empty if it does not report that, or
            finds other fields than the motion moves.
        target: What it should have found.
        periods: Name of each field to the values of its columns that are equivalent to 0.
    """

    labels: Tensor
    unmoved: Tensor
    first: Tensor
    second: Tensor
    found: Element
    target: Element
    periods: Mapping[str, tuple[int, ...]]


Arguments: TypeAlias = Callable[[Outcome], dict[str, Any] | None]
ArgumentsType = TypeVar("ArgumentsType", bound=Arguments)


class Measure:
    """A metric, and the function from outcomes to the arguments of its update; no unit: a share."""

    def __init__(self, metric: Metric, arguments: Arguments, *, unit: str = "") -> None:
        self.metric = compute_alone(metric)
        self.arguments = arguments
        self.unit = unit
        self.updated = False

    def update(self, outcome: Outcome) -> None:
        """Add one batch."""
        arguments = self.arguments(outcome)
        if arguments is not None:
            self.metric.update(**arguments)
            self.updated = True

    def compute(self) -> float:
        """Return the value over all batches, rounded to the 7 digits of float32."""
        return round(float(self.metric.compute()), 7)


def compute_alone(metric: Metric) -> Metric:
    """Let a metric compute what this process has seen: others may wait meanwhile, or have ended."""
    for part in metric.modules():  # of a sum of metrics, say
        if isinstance(part, Metric):
            part.distributed_available_fn = _not_available
    return metric


def _not_available() -> bool:
    return False


_MEASURES: Registry[Callable[[], Measure]] = Registry("a measure", "measure")


def register_measure(
    name: str, build_metric: Callable[[], Metric]
) -> Callable[[ArgumentsType], ArgumentsType]:
    """Register a measure that `evaluate` takes for every motion and restorer.

    Decorates a function from an `Outcome` to keyword arguments of the metric's `update`, or to
    `None` if there is nothing to measure.

    Args:
        name: Its name in the results.
        build_metric: Builds a torchmetrics metric, without arguments.

    Raises:
        ValueError: If another function is the measure of this name already.

    >>> @register_measure("confidence", MeanMetric)
    ... def confidence(outcome):
    ...     return {"value": outcome.first.softmax(1).amax(1)}
    >>> del _MEASURES["confidence"]
    """

    def register(arguments: ArgumentsType) -> ArgumentsType:
        @wraps(arguments)
        def build() -> Measure:
            return Measure(build_metric(), arguments)

        _MEASURES.register(build, name=name)
        return arguments

    return register


@register_measure("accuracy", MeanMetric)
def accuracy(outcome: Outcome) -> dict[str, Any]:
    """Share of images classified correctly after the first draw."""
    return {"value": (outcome.first.argmax(1) == outcome.labels).float()}


@register_measure("consistency", Consistency)
def consistency(outcome: Outcome) -> dict[str, Any]:
    """Share of images assigned to the same class after both draws."""
    return {"preds": outcome.first, "target": outcome.second}


@register_measure("stability", lambda: MeanMetric() * Consistency())
def stability(outcome: Outcome) -> dict[str, Any]:
    """Accuracy times consistency."""
    return {**accuracy(outcome), **consistency(outcome)}


@register_measure("agreement", Consistency)
def agreement(outcome: Outcome) -> dict[str, Any]:
    """Share of images assigned to the class that they have unmoved and without a restorer."""
    return {"preds": outcome.first, "target": outcome.unmoved}


def build_measures(motion: Motion) -> dict[str, Measure]:
    """Build the registered measures, and those of every field of a motion, by name."""
    measures = {name: build() for name, build in _MEASURES.items()}
    for field in motion.fields:
        for name, metric in motion_metrics(field).items():
            unit = "" if metric.higher_is_better else field.unit
            measures[name] = Measure(metric, _of_field(field), unit=unit)
    return measures


def _of_field(field: Field) -> Arguments:
    name = field.name

    def arguments(outcome: Outcome) -> dict[str, Any] | None:
        if name not in outcome.found:
            return None
        return {
            "estimated": outcome.found[name],
            "target": outcome.target[name].to(outcome.found[name]),
            "period": outcome.periods[name],
        }

    return arguments
