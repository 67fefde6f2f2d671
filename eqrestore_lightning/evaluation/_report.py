"""Pictures and logs of an evaluation."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqrestore_lightning.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eqrestore_lightning.evaluation._results import Evaluation

_MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("--", "-", "-.", ":")
_MAX_TICKS = 12
_SAME = 0.02  # of the height: curves closer than this hide one another
_LINE = 0.055  # of the height: one line of text


def draw(evaluation: "Evaluation", path: Path, *, title: str, measure: str) -> Path:
    """Draw a measure against the x axis; see `Evaluation.draw`."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Expected matplotlib, which draws pictures, to be installed: pip install matplotlib"
        ) from error

    unit = evaluation.units.get(measure, "")
    curves = {name: evaluation.curve(name, measure) for name in evaluation.restorers}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if not curves:
        raise ValueError(
            f"Expected a motion whose label is a number, for the x axis, "
            f"but got {evaluation.motions}."
        )
    if not unit:
        curves = {name: (at, [100 * value for value in y]) for name, (at, y) in curves.items()}
    with style.context("eqrestore_lightning.pictures"):
        figure = Figure(figsize=(7.5, 3.8), layout="constrained")
        axes = figure.subplots()
        _draw_curves(axes, curves)
        places = sorted({place for curve, _ in curves.values() for place in curve})
        axes.set_xticks(places[:: 1 + len(places) // (_MAX_TICKS + 1)])
        axes.set(xlabel=evaluation.axis, ylabel=f"{measure.replace('_', ' ')}, {unit or '%'}")
        axes.set_title(title)
        with whole_file(path) as part:
            figure.savefig(part)
    return path


def _draw_curves(
    axes: Any, curves: "Mapping[str, tuple[Sequence[float], Sequence[float]]]"
) -> None:
    """Draw curves with their names at their ends; of two that coincide the lower one is wider."""
    everything = [value for _, y in curves.values() for value in y]
    height = max(everything) - min(everything) or 1.0
    drawn = list(curves.values())
    for index, (places, values) in enumerate(drawn):
        above = [y for at, y in drawn[index + 1 :] if at == places]
        hidden = sum(
            max(abs(a - b) for a, b in zip(values, y, strict=True)) < _SAME * height for y in above
        )
        axes.plot(
            places,
            values,
            color=f"C{index}",
            marker=_MARKERS[index % len(_MARKERS)],
            linestyle=_DASHES[index % len(_DASHES)] if not hidden else "-",
            linewidth=1.5 + 2 * hidden,
            markersize=4 + 2 * hidden,
        )
    low, high = axes.get_ylim()
    ends = [(values[-1] - low) / (high - low) for _, values in drawn]
    for index, (name, y) in enumerate(zip(curves, _apart(ends, _LINE), strict=True)):
        axes.annotate(
            name,
            (drawn[index][0][-1], drawn[index][1][-1]),
            (1.02, y),
            xycoords="data",
            textcoords="axes fraction",
            color=f"C{index}",
            va="center",
            fontsize=9,
            arrowprops={
                "arrowstyle": "-",
                "color": f"C{index}",
                "linewidth": 0.5,
                "relpos": (0, 0.5),
                "shrinkB": 4,
            },
        )


def _apart(values: "Sequence[float]", gap: float) -> list[float]:
    """Move values from 0 to 1 apart so that neighbors differ by `gap` at least, in the same order.

    >>> _apart([0.5, 0.5, 0.875], 0.25)
    [0.375, 0.625, 0.875]
    >>> _apart([1.0, 1.0], 0.25)
    [0.75, 1.0]
    """
    groups: list[list[float]] = []  # of neighbors: their values; each group is centered on its mean
    order = sorted(range(len(values)), key=lambda index: values[index])
    for index in order:
        groups.append([values[index]])
        while len(groups) > 1 and _first(groups[-1], gap) - _last(groups[-2], gap) < gap:
            last = groups.pop()
            groups[-1] += last
    places = [_first(group, gap) + gap * k for group in groups for k in range(len(group))]
    limit = 1.0
    for number in reversed(range(len(places))):  # down again, where they have left the picture
        places[number] = min(places[number], limit)
        limit = places[number] - gap
    apart = dict(zip(order, places, strict=True))
    return [apart[index] for index in range(len(values))]


def _first(group: "Sequence[float]", gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _last(group: "Sequence[float]", gap: float) -> float:
    return sum(group) / len(group) + gap * (len(group) - 1) / 2


def log(evaluation: "Evaluation", logger: Any, title: str) -> None:
    """Log curves, and to W&B a chart and a table; see `Evaluation.log`."""
    run = logger.experiment
    places = sorted({result.at for result in evaluation.results if result.at is not None})
    step = f"{title}/{evaluation.axis}"
    is_wandb = hasattr(run, "define_metric")
    if is_wandb:
        run.define_metric(f"{title}/*", step_metric=step)
    for number, place in enumerate(places):
        point = {
            f"{title}/{name}, {result.restorer}": value
            for result in evaluation.results
            if result.at == place
            for name, value in result.measures.items()
        }
        logger.log_metrics({step: place, **point}, step=None if is_wandb else number)
    if is_wandb:
        rows = evaluation.rows()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        data = [[row.get(name) for name in columns] for row in rows]
        logger.log_table(f"tables/{title}", columns=columns, data=data)
        if places:
            _log_chart(evaluation, run, title)


def wandb_is_offline() -> bool:
    """Check whether W&B keeps runs on this machine: it was told to, or has no key."""
    import wandb

    return os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)


def log_to_wandb(evaluation: "Evaluation", project: str, folder: Path) -> None:
    """Log an evaluation as a W&B run of its own, offline where W&B has no key.

    Args:
        evaluation: What to log.
        project: Name of the W&B project.
        folder: Folder for W&B's files.

    Raises:
        ImportError: If wandb is not installed.
    """
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


def _log_chart(evaluation: "Evaluation", run: Any, title: str) -> None:
    import wandb

    curves = [evaluation.curve(name, "accuracy") for name in evaluation.restorers]
    chart = wandb.plot.line_series(
        [places for places, _ in curves],
        [values for _, values in curves],
        keys=evaluation.restorers,
        title=f"{title}: accuracy",
        xname=evaluation.axis,
    )
    run.log({f"charts/{title}": chart})
