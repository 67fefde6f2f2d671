"""Pictures of curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqrestore_lightning.files._writing import whole_file

_MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("--", "-", "-.", ":")
_MAX_TICKS = 12


def draw_curves(
    path: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
) -> Path:
    """Draw curves, name to places and values; the first ones are wider, so that none is hidden."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Expected matplotlib, which draws pictures, to be installed: pip install matplotlib"
        ) from error

    with style.context("eqrestore_lightning.pictures"):
        figure = Figure(figsize=(7.5, 3.8), layout="constrained")
        axes: Any = figure.subplots()
        for index, (name, (places, values)) in enumerate(curves.items()):
            above = len(curves) - 1 - index
            axes.plot(
                places,
                values,
                label=name,
                color=f"C{index}",
                marker=_MARKERS[index % len(_MARKERS)],
                linestyle=_DASHES[index % len(_DASHES)],
                linewidth=1.5 + 0.8 * above,
                markersize=4 + 0.8 * above,
            )
        ticks = sorted({place for places, _ in curves.values() for place in places})
        axes.set_xticks(ticks[:: 1 + len(ticks) // (_MAX_TICKS + 1)])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_title(title)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
        with whole_file(path) as part:
            figure.savefig(part)
    return path
