"""Reduced landscapes: the best losses of runs over the norm that they were held at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.phases import _setting
from grokscope.analysis.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA = "model.after_step.alpha"
COLUMNS = ("train_loss", "test_loss", "train_acc", "test_acc")


@dataclass(frozen=True)
class Landscape:
    """Best values of each run, ordered by norm; several runs at a norm stay several points.

    Attributes:
        alpha: (runs,) norm over the initial norm.
        train_loss: (runs,) smallest recorded training loss.
        test_loss: (runs,) smallest recorded test loss.
        train_acc: (runs,) largest recorded training accuracy.
        test_acc: (runs,) largest recorded test accuracy.
    """

    alpha: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    train_acc: NDArray[np.float64]
    test_acc: NDArray[np.float64]


def reduced_landscape(runs: Iterable[Run], alpha: str = ALPHA) -> Landscape:
    """The reduced train and test loss of Liu et al. 2023 (Omnigrok), arXiv:2210.01117.

    As in the released code each is the best recorded value, and the two may be of different
    epochs. Row 0, the untrained net, is left out.

    Args:
        runs: Runs that differ in their norm.
        alpha: Dotted name of the setting on the horizontal axis.

    Raises:
        ValueError: If there is no run, or one has no such number.
    """
    rows = []
    for run in runs:
        best = [_best(run, name) for name in COLUMNS]
        rows.append((_setting(run, alpha), *best))
    if not rows:
        raise ValueError("runs must hold at least one run, got none.")
    return Landscape(*np.array(sorted(rows)).T)


def _best(run: Run, name: str) -> float:
    values = run.metrics.series(name)[1:]
    return float(np.nanmax(values) if name.endswith("acc") else np.nanmin(values))


def draw_landscape(landscape: Landscape, figure: Figure, title: str = "") -> None:
    """Draw losses (log) and accuracies over alpha (log)."""
    from grokscope.analysis.figures import TEST, TRAIN

    loss, accuracy = figure.subplots(2, 1, sharex=True)
    for split, colour in (("train", TRAIN), ("test", TEST)):
        for axis, kind in ((loss, "loss"), (accuracy, "acc")):
            values = getattr(landscape, f"{split}_{kind}")
            axis.plot(landscape.alpha, values, "o-", color=colour, label=split, markersize=4)
    loss.set(xscale="log", yscale="log", ylabel="best loss", title=title)
    accuracy.set(ylabel="best accuracy", xlabel="norm / initial norm", ylim=(-0.03, 1.03))
    loss.legend()


def save_landscape(landscape: Landscape, path: str | Path, title: str = "") -> Path:
    """Draw a reduced landscape into a PNG.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from grokscope.analysis.figures import STYLE, write_figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 6.0), layout="constrained")
        draw_landscape(landscape, figure, title)
        return write_figure(figure, Path(path), dpi=130)
