"""Pictures and logs of an evaluation."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqrestore_lightning.files import whole_file

if TYPE_CHECKING:
    from eqrestore_lightning.evaluation._results import Evaluation

# Distinguishable with any color vision (Okabe and Ito, 2008); in print, by marker and dashes.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("--", "-", "-.", ":")
_MAX_TICKS = 12


def draw(evaluation: "Evaluation", path: Path, *, title: str, measure: str) -> Path:
    """Draw a measure against the x axis; see `Evaluation.draw`."""
    try:
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
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for index, (name, (places, values)) in enumerate(curves.items()):
        axes.plot(
            places,
            [value if unit else 100 * value for value in values],
            color=_COLORS[index % len(_COLORS)],
            marker=_MARKERS[index % len(_MARKERS)],
            linestyle=_DASHES[index % len(_DASHES)],
            markersize=max(4, 10 - 1.5 * index),  # curves that coincide stay visible
            fillstyle="none",
            label=name,
        )
    places = sorted({place for curve, _ in curves.values() for place in curve})
    axes.set_xticks(places[:: 1 + len(places) // (_MAX_TICKS + 1)])
    if not unit:
        axes.set_ylim(top=min(axes.get_ylim()[1], 101))
    axes.set(xlabel=evaluation.axis, ylabel=f"{measure.replace('_', ' ')}, {unit or '%'}")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    with whole_file(path) as part:
        figure.savefig(part, dpi=120)
    return path


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
