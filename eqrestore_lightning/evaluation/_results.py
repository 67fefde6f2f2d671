"""Results of an evaluation, and their table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

_MAX_COLUMNS = 12


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
    """

    axis: str
    results: Sequence[Result]
    units: Mapping[str, str] = field(default_factory=dict)

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
        >>> evaluation = Evaluation("shifts up to, pixels", results)
        >>> print(evaluation.table(reference={"paper, restored": [88.18]}))
        | shifts up to, pixels | 4 |
        |---|---|
        | accuracy, no restorer | 75.00 |
        | accuracy, restored | 90.00 |
        | paper, restored | 88.18 |
        | stability, no restorer | 60.00 |
        | stability, restored | 90.00 |
        """
        lines = [[self.axis, *self.motions]]
        lines += self._lines(self._check_measures(measures), dict(reference or {}))
        if len(self.motions) > _MAX_COLUMNS:
            lines = [list(column) for column in zip(*lines, strict=True)]
        rows = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
        return "\n".join([rows[0], "|---" * len(lines[0]) + "|", *rows[1:]])

    def draw(
        self, path: str | PathLike[str], *, title: str = "", measure: str = "accuracy"
    ) -> Path:
        """Draw a measure against the x axis, with one line for each restorer.

        Args:
            path: File to write; its ending decides the format.
            title: Title of the picture.
            measure: Name of the measure.

        Returns:
            The path.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If no motion has a number as its label, or the measure is unknown.
        """
        from eqrestore_lightning.evaluation._report import draw

        self._check_measures([measure])
        return draw(self, Path(path), title=title, measure=measure)

    def log(self, logger: Any, title: str) -> None:
        """Log every measure against the x axis, and to W&B a line chart and a table.

        Args:
            logger: A logger of Lightning. `WandbLogger` gets the x axis as the step of the curves,
                a line chart of the accuracy and a table; other loggers get the curves only.
            title: Heading of the curves: they are logged as `title/measure, restorer`.
        """
        from eqrestore_lightning.evaluation._report import log

        log(self, logger, title)

    def _check_measures(self, measures: Sequence[str] | None) -> list[str]:
        unknown = [name for name in measures or () if name not in self.measures]
        if unknown:
            raise ValueError(f"Expected measures of {self.measures}, but got {unknown}.")
        return list(self.measures if measures is None else measures)

    def _lines(
        self, measures: Sequence[str], reference: Mapping[str, Sequence[float]]
    ) -> list[list[str]]:
        """Return a line for each measure and restorer, references after the accuracies."""
        values = {(r.restorer, r.motion): r.measures for r in self.results}
        lines = []
        for measure in measures:
            unit = self.units.get(measure, "")
            label = measure.replace("_", " ") + (f" in {unit}" if unit else "")
            for name in self.restorers:
                found = [values.get((name, motion), {}).get(measure) for motion in self.motions]
                if any(value is not None for value in found):
                    cells = [_cell(v, 1 if unit else 100) for v in found]
                    lines.append([f"{label}, {name}", *cells])
            if measure == "accuracy":
                lines += [self._reference_line(name, row) for name, row in reference.items()]
        return lines

    def _reference_line(self, name: str, row: Sequence[float]) -> list[str]:
        if len(row) != len(self.motions):
            raise ValueError(
                f"Expected {len(self.motions)} figures in the row {name!r}, but got {len(row)}."
            )
        return [name, *(_cell(value, 1) for value in row)]


def label_to_number(label: str) -> float | None:
    """Return a label as a finite number, or `None` if it is not one."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _cell(value: float | None, factor: float) -> str:
    return "" if value is None else f"{factor * value:.2f}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
