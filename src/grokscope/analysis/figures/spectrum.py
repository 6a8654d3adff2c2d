"""Numbers in an order over epochs, such as eigenvalues: a heat map, and curves of a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.figures.lines import curve, known_curve, part_looks
from grokscope.analysis.figures.matrices import BAD, symmetric_or_from_zero
from grokscope.analysis.figures.style import (
    EPOCHS,
    EPOCHS_SHORT,
    NEUTRAL,
    color_bar,
    draw_moments,
    drawable,
    epoch_axis,
    epoch_positions,
    legend_below,
    name_moments,
    plain,
    run_title,
    say_empty,
    spread_rows,
    wrapped,
)
from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.metrics import Metrics
from grokscope.analysis.panels.model import Spectrum
from grokscope.analysis.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
RANKS = (1, 2, 3, 5, 10, 20, 50, 100)
ROUNDING = 1e-14  # what lies below it, times the largest, is not worth an axis
MOST_EPOCHS, MOST_RANKS = 400, 200  # cells of a heat map


def draw_spectrum(
    spectrum: Spectrum,
    figure: Figure,
    times: GrokkingTimes | None = None,
    ranks: Sequence[int] | None = None,
) -> None:
    """Draw the heat map and curves of some of the numbers, side by side if there is room.

    Args:
        spectrum: Such as eigenvalues.
        figure: Empty.
        times: The two moments.
        ranks: Places of the curves, from 1; those beyond the last are left out. None takes
            ``RANKS`` of a logarithmic spectrum, else the eight largest of the last epoch.

    Raises:
        ValueError: If a rank is below 1.
    """
    if ranks is not None and min(ranks, default=1) < 1:
        raise ValueError(f"ranks must be >= 1, got {list(ranks)}.")
    wide = figure.get_figwidth() > 5
    left, right = figure.subplots(1, 2) if wide else figure.subplots(2, 1)
    if _limits(spectrum) is None:
        say_empty(left)
        say_empty(right)
        return
    draw_heat_map(spectrum, left)
    _draw_ranks(right, spectrum, _shown_ranks(spectrum) if ranks is None else ranks)
    for axis in (left, right):
        draw_moments(axis, times, legend=axis is right, on_image=axis is left)
        epoch_axis(axis, EPOCHS_SHORT if wide else EPOCHS if axis is right else "")
    right.set_xlim(left.get_xlim())
    legend_below(figure, right)


def _limits(spectrum: Spectrum) -> tuple[float, float] | None:
    """Of the colours."""
    if spectrum.log:
        return positive_limits(spectrum.values)
    known = spectrum.values[drawable(spectrum.values)]
    look = symmetric_or_from_zero(known)
    return (look["vmin"], look["vmax"]) if len(known) else None


def positive_limits(values: Array) -> tuple[float, float] | None:
    """Smallest and largest number that a log axis shows; None if none is positive and finite."""
    shown = values[drawable(values) & (values > 0)]
    if not len(shown):
        return None
    largest = float(shown.max())
    smallest = max(float(shown.min()), largest * ROUNDING)
    return (smallest, largest) if smallest < largest else (largest / 2, largest * 2)


def _shown_ranks(spectrum: Spectrum) -> Sequence[int]:
    """Those whose curves are drawn unless others are wanted."""
    if spectrum.log:
        return RANKS
    known = drawable(spectrum.values)
    last = np.abs(np.where(known, spectrum.values, 0.0)[known.any(1)][-1])
    return sorted((np.argsort(-last, kind="stable")[: len(RANKS)] + 1).tolist())


def draw_heat_map(spectrum: Spectrum, axis: Axes) -> None:
    """Numbers in colour over epochs and their order; what cannot be shown is grey.

    Colours and order are logarithmic if the spectrum is. Of many epochs and numbers of such an
    order, some are taken, evenly on the log axes.
    """
    rows = spread_rows(spectrum.epochs, MOST_EPOCHS)
    order = np.arange(1, spectrum.values.shape[1] + 1)
    columns = spread_rows(order, MOST_RANKS) if spectrum.log else order - 1
    values = spectrum.values[np.ix_(rows, columns)]
    shown = drawable(values) & (values > 0 if spectrum.log else True)
    centres = order[columns].astype(float)
    mesh = axis.pcolormesh(
        log_edges(epoch_positions(spectrum.epochs[rows])),
        log_edges(centres) if spectrum.log else np.append(centres - 0.5, centres[-1] + 0.5),
        np.ma.masked_where(~shown, values).T,
        **_colours(spectrum),
        rasterized=True,
    )
    axis.set(xscale="log", facecolor=BAD, ylabel=plain(spectrum.axis))
    axis.grid(False)
    if spectrum.log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    color_bar(axis, mesh, spectrum.unit)


def _colours(spectrum: Spectrum) -> dict[str, Any]:
    """Colour map and norm."""
    from matplotlib.colors import LogNorm

    if spectrum.log:
        return {"norm": LogNorm(*(_limits(spectrum) or (1, 10))), "cmap": "viridis"}
    return symmetric_or_from_zero(spectrum.values)


def log_edges(centres: Array) -> Array:
    """Borders of cells around ascending positive centres: geometric means, (n + 1,)."""
    if len(centres) == 1:
        return np.array([centres[0] / np.sqrt(2), centres[0] * np.sqrt(2)])
    inner = np.sqrt(centres[1:] * centres[:-1])
    first, last = centres[0] ** 2 / inner[0], centres[-1] ** 2 / inner[-1]
    return np.concatenate([[first], inner, [last]])


def _draw_ranks(axis: Axes, spectrum: Spectrum, ranks: Sequence[int], name: str = "") -> None:
    """Curves of some of the numbers, dark to light in their order."""
    import matplotlib as mpl

    values, name = spectrum.values, name or f"{plain(spectrum.axis, 20)} "
    shown = [rank for rank in ranks if rank <= values.shape[1]]
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, max(len(shown), 1)))
    for colour, rank in zip(colours, shown, strict=False):
        column = values[:, rank - 1]
        kept = np.where(column > 0, column, np.nan) if spectrum.log else column
        curve(axis, spectrum.epochs, kept, color=colour, label=f"{name}{rank}", linewidth=1.1)
    if spectrum.log:
        axis.set_yscale("log")
        if (limits := positive_limits(values)) is not None:
            axis.set_ylim(bottom=limits[0] / 2)
    axis.set_ylabel(wrapped(spectrum.unit))


def draw_gop(run: Run, figure: Figure) -> bool:
    """GOP trace by layer, and the spectra of the weight gradients; False if there are none."""
    metrics, times = run.metrics, run.grokking_as_configured()
    if "gop/batch/trace" not in metrics or len(metrics["gop/batch/epoch"]) < 2:
        return False
    trace, spectra = figure.subplots(2, 1, sharex=True)
    figure.suptitle(run_title(run))
    whole = {"color": NEUTRAL, "label": "whole network", "linewidth": 1.8}
    known_curve(trace, metrics["gop/batch/epoch"], metrics["gop/batch/trace"], **whole)
    _draw_layers(run, metrics, trace)
    trace.set(yscale="log", ylabel="trace of the batch GOP, ‖gradient‖²")
    trace.legend(loc="best", fontsize=8, ncols=2)
    name_moments(trace, times)
    _draw_spectra(metrics, spectra)
    for axis, label in ((trace, ""), (spectra, EPOCHS)):
        draw_moments(axis, times)
        epoch_axis(axis, label)
    return True


def _draw_layers(run: Run, metrics: Metrics, axis: Axes) -> None:
    """The trace of each layer; of a large network's only the first and the last are named."""
    if "gop/batch/layers/trace" not in metrics:
        return
    epochs, by_layer = metrics["gop/batch/layers/epoch"], metrics["gop/batch/layers/trace"]
    for i, look in enumerate(part_looks(run.layers)):
        known_curve(axis, epochs, by_layer[:, i], **look)


def _draw_spectra(metrics: Metrics, axis: Axes) -> None:
    """Largest eigenvalues of ΓΓᵀ over all weight matrices."""
    kind = "weight" if "gop/weight/epoch" in metrics else "batch"
    epochs, values = (metrics[f"gop/{kind}/{name}"] for name in ("epoch", "eigenvalues_top_k"))
    unit = f"eigenvalues of the {kind} GOP"
    _draw_ranks(axis, Spectrum("whole", unit, "rank", epochs, values), RANKS, "λ")
    axis.set_ylabel(unit)
    axis.legend(loc="best", fontsize=8, ncols=4)
