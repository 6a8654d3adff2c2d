"""A matrix at one epoch, as an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.figures.style import color_bar, drawable, plain, say_empty
from grokscope.analysis.panels.model import Matrices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = NDArray[np.float64]
MOST_NUMBERS = 10  # rows and columns of a matrix whose entries are written out
MOST_NAMES = 12  # on an axis
BAD = "#dddddd"


def draw_matrix(matrices: Matrices, figure: Figure, epoch: float | None = None) -> None:
    """Draw the matrix of one epoch, by default the last.

    Colours are blue to red about 0 where an entry at any epoch is negative, else from 0 on; an
    entry that is not finite is grey. Small matrices have their numbers written in.

    Raises:
        ValueError: For an epoch without a matrix.
    """
    axis = figure.subplots()
    if not drawable(matrices.values).any():
        say_empty(axis)
        return
    row = _row(matrices.epochs, epoch)
    values = matrices.values[row]
    image = draw_image(axis, values, **symmetric_or_from_zero(values))
    name_axes(axis, matrices)
    color_bar(axis, image, matrices.unit)
    axis.set_title(f"epoch {matrices.epochs[row]:,.0f}")
    if max(values.shape) <= MOST_NUMBERS:
        _write_numbers(axis, image, values)


def _row(epochs: Array, epoch: float | None) -> int:
    if epoch is None:
        return len(epochs) - 1
    found = np.flatnonzero(epochs == epoch)
    if not len(found):
        nearest = epochs[np.argmin(np.abs(epochs - epoch))]
        raise ValueError(f"epoch must be one with a matrix, got {epoch:g}; near is {nearest:g}.")
    return int(found[0])


def symmetric_or_from_zero(values: Array) -> dict[str, Any]:
    """Colour map and limits: about 0 if anything is negative, else from 0 to the largest."""
    finite = values[drawable(values)]
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0
    if (finite < 0).any():
        return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    return {"cmap": "viridis", "vmin": 0.0, "vmax": largest}


def draw_image(axis: Axes, values: Array, **look: Any) -> AxesImage:
    """Values as an image with the first row at the top; cells keep to the axis, not square."""
    axis.set_facecolor(BAD)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return axis.imshow(np.ma.masked_invalid(values), aspect="auto", interpolation="none", **look)


def name_axes(axis: Axes, matrices: Matrices) -> None:
    """Names of rows and columns, of many only some."""
    for names, number in ((matrices.rows, 1), (matrices.columns, 0)):
        shown = np.arange(0, len(names), -(-len(names) // MOST_NAMES) or 1)
        words = [plain(names[i], 14) for i in shown]
        upright = number == 0 and max(map(len, words), default=0) > 3
        which = (axis.xaxis, axis.yaxis)[number]
        which.set_ticks(shown, words, rotation=90 if upright else 0)


def _write_numbers(axis: Axes, image: AxesImage, values: Array) -> None:
    """Each entry, black or white by what is below it."""
    size = 6.5 if max(values.shape) > 5 else 8
    colours = image.to_rgba(np.nan_to_num(values))
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = colours[i, j]
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            colour = "white" if dark else "black"
            axis.text(j, i, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=size)
