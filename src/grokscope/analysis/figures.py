"""Figures of one run, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.metrics import Metrics
from grokscope.analysis.run import Run, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 12  # layers in a legend
TRAIN, TEST, NEUTRAL = "#0072B2", "#D55E00", "#555555"  # Okabe-Ito: safe for colour-blind eyes
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def save_figures(run: Run) -> list[Path]:
    """Draw ``curves.png`` and, where the GOP was measured, ``gop.png`` into the run's folder.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    saved = []
    with mpl.rc_context(STYLE):
        for name, draw in (("curves", draw_curves), ("gop", draw_gop)):
            figure = Figure(figsize=(8, 6.4), layout="constrained")
            if draw(run, figure):
                saved.append(run.path / f"{name}.png")
                figure.savefig(saved[-1], dpi=130)
    return saved


def draw_curves(run: Run, figure: Figure) -> bool:
    """Loss and accuracy over epochs; False, and nothing drawn, with fewer than two rows."""
    metrics, times = run.metrics, run.grokking_as_configured()
    if "train_loss" not in metrics or len(metrics["epoch"]) < 2:
        return False
    accuracy, loss = figure.subplots(2, 1, sharex=True)
    figure.suptitle(_title(run))
    for axis, kind, unit in ((accuracy, "acc", "accuracy"), (loss, "loss", "loss")):
        for split, colour in (("train", TRAIN), ("test", TEST)):
            _line(axis, metrics["epoch"], metrics[f"{split}_{kind}"], colour, split)
        _theory(axis, metrics, kind)
        _finish(axis, times, unit)
    accuracy.set_ylim(-0.03, 1.03)
    loss.set_yscale("log")
    loss.set_xlabel("epoch (passes over the training set; 0 drawn at 0.5)")
    accuracy.legend(loc="center left")
    _name_moments(accuracy, times)
    return True


def _theory(axis: Axes, metrics: Metrics, kind: str) -> None:
    """Dotted curves of what theory predicts, where the module knows it."""
    for split in ("train", "test"):
        if (name := f"theory_{split}_{kind}") in metrics:
            dots = {"linestyle": (0, (1, 3))}
            _line(axis, metrics["epoch"], metrics[name], "black", f"{split}, theory", **dots)


def draw_gop(run: Run, figure: Figure) -> bool:
    """GOP trace by layer, and the spectra of the weight gradients; False if there are none."""
    metrics, times = run.metrics, run.grokking_as_configured()
    if "gop/batch/trace" not in metrics or len(metrics["gop/batch/epoch"]) < 2:
        return False
    trace, spectra = figure.subplots(2, 1, sharex=True)
    figure.suptitle(_title(run))
    epochs = metrics["gop/batch/epoch"]
    _line(trace, epochs, metrics["gop/batch/trace"], NEUTRAL, "whole network", linewidth=1.8)
    _draw_layers(run, metrics, trace)
    trace.set_yscale("log")
    trace.legend(loc="best", fontsize=8, ncols=2)
    _finish(trace, times, "trace of the batch GOP, ‖gradient‖²")
    _name_moments(trace, times)
    _draw_spectra(metrics, spectra, times)
    spectra.set_xlabel("epoch (passes over the training set; 0 drawn at 0.5)")
    return True


def _draw_layers(run: Run, metrics: Metrics, axis: Axes) -> None:
    """The trace of each layer; the layers of a large network are not named."""
    if "gop/batch/layers/trace" not in metrics:
        return
    epochs, by_layer = metrics["gop/batch/layers/epoch"], metrics["gop/batch/layers/trace"]
    layers = run.layers
    for i, layer in enumerate(layers):
        label = _plain(layer) if len(layers) <= MOST_NAMED else None
        _line(axis, epochs, by_layer[:, i], f"C{i % 10}", label, linewidth=0.9)


def _draw_spectra(metrics: Metrics, axis: Axes, times: GrokkingTimes) -> None:
    """Largest eigenvalues of ΓΓᵀ over all weight matrices, dark to light by rank."""
    import matplotlib as mpl

    kind = "weight" if "gop/weight/epoch" in metrics else "batch"
    epochs = metrics[f"gop/{kind}/epoch"]
    values = metrics[f"gop/{kind}/eigenvalues_top_k"]
    ranks = [i for i in (0, 1, 2, 4, 9, 19, 49, 99) if i < values.shape[1]]
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(ranks)))
    for colour, rank in zip(colours, ranks, strict=True):
        _line(axis, epochs, values[:, rank], colour, f"λ{rank + 1}", linewidth=1.1)
    axis.set_yscale("log")
    shown = values[values > 0]
    if len(shown):  # what lies below the rounding of the largest is not worth an axis
        axis.set_ylim(bottom=max(shown.min() / 2, shown.max() * 1e-14))
    axis.legend(loc="best", fontsize=8, ncols=4)
    _finish(axis, times, f"eigenvalues of the {kind} GOP")


def _line(
    axis: Axes, epochs: Any, values: Any, colour: Any, label: str | None, **style: Any
) -> None:
    """One curve on a log axis; epoch 0 is drawn at 0.5, rows that were not measured left out."""
    known = ~np.isnan(values)
    x = np.maximum(np.asarray(epochs, dtype=float), 0.5)
    axis.plot(x[known], values[known], color=colour, label=label, **{"linewidth": 1.5, **style})


def _finish(axis: Axes, times: GrokkingTimes, label: str) -> None:
    """Log axis, unit, and a line at each of the two moments."""
    axis.set_xscale("log")
    axis.set_ylabel(label)
    for epoch, colour in ((times.memorised, TRAIN), (times.generalised, TEST)):
        if epoch is not None:
            axis.axvline(max(epoch, 0.5), color=colour, linestyle="--", linewidth=1)


def _name_moments(axis: Axes, times: GrokkingTimes) -> None:
    """The two moments in words above a panel, one to the left of its line, one to the right."""
    for epoch, colour, name, side in (
        (times.memorised, TRAIN, "memorised", "right"),
        (times.generalised, TEST, "generalised", "left"),
    ):
        if epoch is not None:
            axis.annotate(
                f" {name} {epoch:,} ",
                (max(epoch, 0.5), 1.0),
                xycoords=("data", "axes fraction"),
                ha=side,
                va="bottom",
                fontsize=9,
                color=colour,
            )


def _title(run: Run) -> str:
    seed = run.info.get("seed")
    return _plain(run.name if seed is None else f"{run.name}, seed {seed}")


def _plain(text: str) -> str:
    """Text that matplotlib takes neither for mathematics nor for a label to leave out."""
    text = printable(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
