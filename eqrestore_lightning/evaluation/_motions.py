"""Labeled motions for `evaluate`."""

from collections.abc import Iterable, Sequence

from eqrestore_lightning.functional import Fill
from eqrestore_lightning.motions import Motion, Product, Shift, ShiftFill, Turn


def shift_motions(
    sizes: Iterable[int] = range(9),
    *,
    fill: ShiftFill = "circular",
    axes: Sequence[int] = (-2, -1),
) -> dict[str, Motion]:
    """Return shifts of several sizes, by size.

    Args:
        sizes: Largest shift along each axis, pixels.
        fill: What enters where content leaves, see `Shift`.
        axes: The axes to shift along, see `Shift`.

    Returns:
        Size, such as `"4"`, to motion.

    >>> shift_motions([0, 4])["4"]
    Shift(axes=(-2, -1), max_shift=4, fill='circular')
    """
    return {str(size): Shift(tuple(axes), max_shift=size, fill=fill) for size in sizes}


def turn_motions(
    angles: Iterable[float] = range(0, 360, 15), *, fill: Fill = "zeros", max_shift: int = 0
) -> dict[str, Motion]:
    """Return turns by several angles, by angle, and a turn by a random angle, under `"any"`.

    Args:
        angles: Degrees, counter-clockwise as displayed.
        fill: What enters at the corners, see `rotate`.
        max_shift: If above 0, turned images are shifted circularly as well, each by its own amount
            of up to this many pixels along each axis.

    Returns:
        Angle, such as `"22.5"`, or `"any"`, to motion.

    >>> list(turn_motions([0, 22.5]))
    ['0', '22.5', 'any']
    """
    turns = {f"{angle:g}": Turn((float(angle), float(angle)), fill=fill) for angle in angles}
    turns["any"] = Turn(fill=fill)
    if max_shift == 0:
        return dict(turns)
    return {label: Product(turn, Shift(max_shift=max_shift)) for label, turn in turns.items()}
