"""Results of an evaluation: table, picture, verdict, log."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from eqrestore_lightning.evaluation._plots import draw_curves
from eqrestore_lightning.files._markdown import markdown_table

NO_RESTORER = "no restorer"
"""Name of the results without a restorer."""
_MAX_COLUMNS = 12
_LOW_ACCURACY = 0.5  # of unmoved images: below, the verdict says what to look at


@dataclass(frozen=True)
class Result:
    """The measures of a data set under one motion, behind one restorer.

    Attributes:
        restorer: Its name.
        motion: Label of the motion.
        at: The label as a number, its place on the x axis; `None` if it is not a number.
        measures: Name to value: shares from 0 to 1, distances in the unit of the field.
    """

    restorer: str
    motion: str
    at: float | None
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns: for each motion, results without a restorer and with each.

    Attributes:
        axis: What the labels of the motions count, with its unit.
        results: One for each motion and restorer.
        units: Unit of each measure that is not a share.
        num_images: Number of images.
        unmoved: Accuracy on the unmoved images, by restorer, from 0 to 1.
    """

    axis: str
    results: Sequence[Result]
    units: Mapping[str, str] = field(default_factory=dict)
    num_images: int = 0
    unmoved: Mapping[str, float] = field(default_factory=dict)

    @property
    def restorers(self) -> list[str]:
        """Names of the restorers, in order."""
        return list(dict.fromkeys(result.restorer for result in self.results))

    @property
    def motions(self) -> list[str]:
        """Labels of the motions, in order."""
        return list(dict.fromkeys(result.motion for result in self.results))

    @property
    def measures(self) -> list[str]:
        """Names of the measures, in order."""
        return list(dict.fromkeys(name for result in self.results for name in result.measures))

    def get(self, restorer: str, motion: str) -> Result:
        """Return one result.

        Raises:
            ValueError: If there is none.
        """
        for result in self.results:
            if (result.restorer, result.motion) == (restorer, motion):
                return result
        raise ValueError(
            f"Expected a restorer of {self.restorers} and a motion of {self.motions}, "
            f"but got {restorer!r} and {motion!r}."
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return the results as flat rows, in plain JSON types, for a file or a data frame."""
        return [
            {"restorer": r.restorer, "motion": r.motion, "at": r.at, **r.measures}
            for r in self.results
        ]

    def curve(self, restorer: str, measure: str) -> tuple[list[float], list[float]]:
        """Return a measure against the x axis; labels that are not numbers are left out.

        Args:
            restorer: Name of the restorer.
            measure: Name of the measure.

        Returns:
            Places on the x axis, ascending, and values.
        """
        points = sorted(
            (result.at, result.measures[measure])
            for result in self.results
            if result.restorer == restorer and result.at is not None and measure in result.measures
        )
        return [at for at, _ in points], [value for _, value in points]

    def verdict(self, restorer: str | None = None, motion: str | None = None) -> str:
        """Say in words what a restorer changes, with 95 % confidence intervals (Wilson's).

        Args:
            restorer: Its name; by default the first one.
            motion: Label of the motion; by default the last one.

        Returns:
            Accuracies without and with the restorer on moved and on unmoved images, in percent, and
            what to check if the classifier is wrong about half of the unmoved images.

        Raises:
            ValueError: If there is no such result, or no accuracy of unmoved images.

        >>> results = [Result("no restorer", "8", 8.0, {"accuracy": 0.90625}),
        ...            Result("restored", "8", 8.0, {"accuracy": 0.9375})]
        >>> evaluation = Evaluation("largest shift (pixels)", results, num_images=64,
        ...                         unmoved={"no restorer": 0.9375, "restored": 0.9375})
        >>> print(evaluation.verdict())
        64 images, accuracy without → with the restorer (95 % confidence intervals):
        moved, largest shift (pixels) 8: 90.6 % (81.0 to 95.6) → 93.8 % (85.0 to 97.5)
        unmoved: 93.8 % (85.0 to 97.5) → 93.8 % (85.0 to 97.5)
        """
        others = [name for name in self.restorers if name != NO_RESTORER]
        restorer = restorer or (others or [NO_RESTORER])[0]
        motion = motion or self.motions[-1]
        if restorer not in self.unmoved:
            raise ValueError(
                f"Expected accuracies of unmoved images behind {restorer!r}, "
                f"but got those of {list(self.unmoved)}."
            )
        pair = (NO_RESTORER, restorer)
        moved = (self._share(self.get(name, motion).measures["accuracy"]) for name in pair)
        unmoved = (self._share(self.unmoved[name]) for name in pair)
        lines = [
            f"{self.num_images:,} images, accuracy without → with the restorer "
            f"(95 % confidence intervals):",
            f"moved, {self.axis} {motion}: {' → '.join(moved)}",
            f"unmoved: {' → '.join(unmoved)}",
        ]
        if self.unmoved[NO_RESTORER] < _LOW_ACCURACY:
            lines.append(
                "The classifier itself is often wrong: check that the size, the range and the "
                "normalization of the images, and the order of the classes, are those of its "
                "training."
            )
        return "\n".join(lines)

    def table(
        self,
        *,
        measures: Sequence[str] | None = None,
        reference: Mapping[str, Sequence[float]] | None = None,
    ) -> str:
        """Return the results as a Markdown table: shares in percent, distances in their units.

        Motions are columns, or rows if there are more than 12 of them.

        Args:
            measures: Names of the measures to show; all by default.
            reference: Further accuracies, such as published ones: name to percentages, one for each
                motion.

        Raises:
            ValueError: If a row of `reference` has another length, or a measure is unknown.

        >>> results = [Result("no restorer", "4", 4.0, {"accuracy": 0.75, "stability": 0.6}),
        ...            Result("restored", "4", 4.0, {"accuracy": 0.9, "stability": 0.9})]
        >>> evaluation = Evaluation("largest shift (pixels)", results)
        >>> print(evaluation.table(reference={"paper, restored": [88.18]}))
        | largest shift (pixels) | 4 |
        |---|---|
        | accuracy, no restorer | 75.00 |
        | accuracy, restored | 90.00 |
        | paper, restored | 88.18 |
        | stability, no restorer | 60.00 |
        | stability, restored | 90.00 |
        """
        lines = self._lines(self._check_measures(measures), dict(reference or {}))
        if len(self.motions) <= _MAX_COLUMNS:
            rows = [
                {self.axis: name, **dict(zip(self.motions, line, strict=True))}
                for name, line in lines.items()
            ]
        else:
            rows = [
                {self.axis: motion, **{name: line[number] for name, line in lines.items()}}
                for number, motion in enumerate(self.motions)
            ]
        return markdown_table(rows)

    def draw(self, path: str | PathLike[str], *, title: str = "") -> Path:
        """Draw accuracy against the x axis, with one line for each restorer.

        Args:
            path: File to write; its ending decides the format.
            title: Title of the picture.

        Returns:
            The path.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If no motion has a number as its label.
        """
        curves = {}
        for name in self.restorers:
            places, values = self.curve(name, "accuracy")
            if places:
                curves[name] = (places, [100 * value for value in values])
        if not curves:
            raise ValueError(
                f"Expected a motion whose label is a number, for the x axis, "
                f"but got {self.motions}."
            )
        return draw_curves(Path(path), curves, title=title, xlabel=self.axis, ylabel="accuracy (%)")

    def log(self, logger: Any, title: str) -> None:
        """Log every measure against the x axis, and to W&B a line chart and a table.

        Args:
            logger: A logger of Lightning. `WandbLogger` gets the x axis as the step of the curves,
                a line chart of the accuracy and a table; other loggers get the curves only.
            title: Heading of the curves: they are logged as `title/measure, restorer`.
        """
        places = sorted({result.at for result in self.results if result.at is not None})
        step = f"{title}/{self.axis}"
        is_wandb = hasattr(logger.experiment, "define_metric")
        if is_wandb:
            logger.experiment.define_metric(f"{title}/*", step_metric=step)
        for number, place in enumerate(places):
            point = {
                f"{title}/{name}, {result.restorer}": value
                for result in self.results
                if result.at == place
                for name, value in result.measures.items()
            }
            logger.log_metrics({step: place, **point}, step=None if is_wandb else number)
        if is_wandb:
            rows = self.rows()
            columns = list(dict.fromkeys(name for row in rows for name in row))
            data = [[row.get(name) for name in columns] for row in rows]
            logger.log_table(f"tables/{title}", columns=columns, data=data)
            if places:
                self._log_chart(logger.experiment, title)

    def _log_chart(self, run: Any, title: str) -> None:
        import wandb

        curves = [self.curve(name, "accuracy") for name in self.restorers]
        chart = wandb.plot.line_series(
            [places for places, _ in curves],
            [values for _, values in curves],
            keys=self.restorers,
            title=f"{title}: accuracy",
            xname=self.axis,
        )
        run.log({f"charts/{title}": chart})

    def _check_measures(self, measures: Sequence[str] | None) -> list[str]:
        unknown = [name for name in measures or () if name not in self.measures]
        if unknown:
            raise ValueError(f"Expected measures of {self.measures}, but got {unknown}.")
        return list(self.measures if measures is None else measures)

    def _lines(
        self, measures: Sequence[str], reference: Mapping[str, Sequence[float]]
    ) -> dict[str, list[float | None]]:
        """Return a line for each measure and restorer, references after the accuracies."""
        values = {(r.restorer, r.motion): r.measures for r in self.results}
        lines: dict[str, list[float | None]] = {}
        for measure in measures:
            unit = self.units.get(measure, "")
            label = measure.replace("_", " ") + (f" in {unit}" if unit else "")
            for name in self.restorers:
                found = [values.get((name, motion), {}).get(measure) for motion in self.motions]
                if any(value is not None for value in found):
                    factor = 1.0 if unit else 100.0
                    lines[f"{label}, {name}"] = [None if v is None else factor * v for v in found]
            if measure == "accuracy":
                for name, row in reference.items():
                    if len(row) != len(self.motions):
                        raise ValueError(
                            f"Expected {len(self.motions)} figures in the row {name!r}, "
                            f"but got {len(row)}."
                        )
                    lines[name] = [float(value) for value in row]
        return lines

    def _share(self, share: float) -> str:
        low, high = wilson_interval(share, self.num_images)
        return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of `count` images, from 0 to 1 (Wilson)."""
    z2 = 1.959964**2
    center = share + z2 / (2 * count)
    reach = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2)))
    return (center - reach) / (1 + z2 / count), (center + reach) / (1 + z2 / count)


def label_to_number(label: str) -> float | None:
    """Return a label as a finite number, or `None` if it is not one."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def wandb_is_offline() -> bool:
    """Check whether W&B keeps runs on this machine: it was told to, or has no key."""
    import wandb

    return os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)


def log_to_wandb(evaluation: Evaluation, project: str, folder: Path) -> None:
    """Log an evaluation as a W&B run of its own below `folder`, offline where W&B has no key."""
    try:
        import wandb
    except ImportError as error:
        raise ImportError("Expected wandb to be installed: pip install wandb") from error
    from lightning.pytorch.loggers import WandbLogger

    offline = wandb_is_offline()
    folder.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(project=project, save_dir=folder, offline=offline)
    evaluation.log(logger, "evaluation")
    wandb.finish()
