"""Phases of learning: one name for a run, and the diagram of a sweep over two settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.analysis.grokking import grokking_times
from grokscope.analysis.run import Run
from grokscope.validation import require_int

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHASES = ("comprehension", "grokking", "memorisation", "confusion")
UNKNOWN = "no run"
COLOURS = {  # Okabe-Ito: safe for colour-blind eyes; the letter says it without colour
    "comprehension": "#009E73",
    "grokking": "#E69F00",
    "memorisation": "#56B4E9",
    "confusion": "#BBBBBB",
    UNKNOWN: "#FFFFFF",
}


def phase(
    epochs: ArrayLike,
    train_acc: ArrayLike,
    test_acc: ArrayLike,
    *,
    train: float = 0.9,
    test: float = 0.9,
    lag: int = 1000,
    budget: int | None = None,
) -> str:
    """The phase of a run.

    Args:
        epochs: (rows,) ascending. The definitions count steps, which are epochs where batches
            are full; give steps otherwise.
        train_acc: (rows,) in [0, 1]; NaN rows are passed over.
        test_acc: (rows,) likewise.
        train: Threshold of the training accuracy.
        test: Threshold of the test accuracy; 0.6 for MNIST in the paper.
        lag: Steps from one threshold to the other from which it is grokking.
        budget: Rows at or after this epoch do not count; None takes all. 1e5 in the paper, 1e4 in
            the released sweeps.

    Returns:
        ``comprehension``: both thresholds are reached, the test's less than ``lag`` later;
        ``grokking``: both, but later; ``memorisation``: that of the training accuracy alone;
        ``confusion``: not even that.

    Raises:
        ValueError: As :func:`~grokscope.analysis.grokking.grokking_times`, and for a ``lag`` or
            ``budget`` that is no positive integer.

    Source:
        Liu et al. 2022, arXiv:2205.10343, Table 1. In the released code a threshold that is
        not reached counts as reached at the last step.
    """
    require_int("lag", lag)
    times = grokking_times(epochs, train_acc, test_acc, train=train, test=test)
    stop = float("inf") if budget is None else require_int("budget", budget)
    memorised, generalised = (
        None if epoch is None or epoch >= stop else epoch
        for epoch in (times.memorised, times.generalised)
    )
    if memorised is None:
        return "confusion"
    if generalised is None:
        return "memorisation"
    return "comprehension" if generalised - memorised < lag else "grokking"


@dataclass(frozen=True)
class PhaseTable:
    """Phases over two settings.

    Attributes:
        x: (columns,) values of the first setting, ascending.
        y: (rows,) values of the second, ascending.
        phases: (rows, columns) names; ``no run`` where there is none.
        names: Dotted names of the two settings.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    phases: NDArray[np.str_]
    names: tuple[str, str]

    def letters(self) -> list[str]:
        """A line for each row, the largest ``y`` first: C, G, M, X for confusion, ``.``."""
        short = {"confusion": "X", UNKNOWN: "."}
        return [
            "".join(short.get(str(name), str(name)[0].upper()) for name in row)
            for row in self.phases[::-1]
        ]


def phase_table(runs: Iterable[Run], x: str, y: str, **definition: Any) -> PhaseTable:
    """Phases of the runs of a sweep.

    Args:
        runs: Such as ``grokscope.runs("logs/multiruns/liu_effective/...")``.
        x: Dotted name of a setting with numbers, such as ``model.optimizer.lr``.
        y: Another.
        definition: Of :func:`phase`.

    Returns:
        The table; where several runs (seeds) share a cell, their most frequent phase, and of
        equally frequent ones the first in :data:`PHASES`.

    Raises:
        ValueError: If there is no run, or one has no such number.
    """
    cells: dict[tuple[float, float], list[str]] = {}
    for run in runs:
        metrics = run.metrics
        series = (metrics.series(name) for name in ("epoch", "train_acc", "test_acc"))
        place = (_setting(run, x), _setting(run, y))
        cells.setdefault(place, []).append(phase(*series, **definition))
    if not cells:
        raise ValueError("runs must hold at least one run, got none.")
    xs, ys = (np.array(sorted({place[axis] for place in cells})) for axis in (0, 1))
    table = [[_commonest(cells.get((a, b), [])) for a in xs] for b in ys]
    return PhaseTable(xs, ys, np.array(table), (x, y))


def _setting(run: Run, name: str) -> float:
    node: Any = run.config
    for part in name.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        raise ValueError(f"{name} must be a number in the settings of {run.path}, got {node!r}.")
    return float(node)


def _commonest(found: list[str]) -> str:
    counts = Counter(found)
    return max(PHASES, key=lambda name: counts[name]) if found else UNKNOWN


def draw_phases(table: PhaseTable, figure: Figure, title: str = "") -> None:
    """Draw a phase diagram: colour and letter of each cell, and a legend."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    axis = figure.add_subplot()
    order = list(COLOURS)
    numbers = np.vectorize(order.index)(table.phases)
    palette = ListedColormap(list(COLOURS.values()))
    axis.pcolormesh(
        numbers, cmap=palette, vmin=-0.5, vmax=len(order) - 0.5, edgecolors="white", linewidth=1
    )
    for row, letters in enumerate(reversed(table.letters())):
        for column, letter in enumerate(letters):
            axis.text(column + 0.5, row + 0.5, letter, ha="center", va="center", fontsize=8)
    for ticks, values in ((axis.set_xticks, table.x), (axis.set_yticks, table.y)):
        ticks(np.arange(len(values)) + 0.5, [f"{value:.3g}" for value in values])
    axis.tick_params(axis="x", rotation=45)
    axis.grid(False)
    axis.set_xlabel(table.names[0])
    axis.set_ylabel(table.names[1])
    axis.set_title(title)
    shown = [name for name in order if (table.phases == name).any()]
    handles = [Patch(facecolor=COLOURS[name], edgecolor="#555555", label=name) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def save_phases(table: PhaseTable, path: str | Path, title: str = "") -> Path:
    """Draw a phase diagram into a PNG.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from grokscope.analysis.figures import STYLE, write_figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.6), layout="constrained")
        draw_phases(table, figure, title)
        return write_figure(figure, Path(path), dpi=130)
