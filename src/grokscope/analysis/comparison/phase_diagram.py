"""Phases of a sweep over two settings, with how long generalisation took in each cell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokscope.analysis.comparison.grouping import RunGroups, as_number, run_groups
from grokscope.analysis.comparison.snapshot import Snapshot
from grokscope.analysis.delays import TRAINING
from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.phases import PhaseTable, _setting, phase_table
from grokscope.analysis.run import Run

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PhaseDiagram:
    """Phases over two settings, and times.

    Attributes:
        table: Axes and phases.
        generalised: (rows, columns) median epoch of generalisation over the runs of a cell;
            infinite if it was not reached in half of them or more, NaN without runs.
        delay: (rows, columns) median of the epochs from memorising to generalising, over the runs
            that memorised; infinite and NaN likewise.
        counts: (rows, columns) runs.
    """

    table: PhaseTable
    generalised: Array
    delay: Array
    counts: NDArray[np.int64]


def phase_diagram(
    runs: Iterable[Run],
    x: str | None = None,
    y: str | None = None,
    *,
    train: float = 0.9,
    test: float = 0.9,
    **definition: Any,
) -> PhaseDiagram:
    """Phase and times of each cell of a sweep.

    Args:
        runs: Of a sweep.
        x: Dotted name of a setting with numbers; None, with ``y``, chooses both
            (:func:`swept_keys`).
        y: Another.
        train: Threshold of the training accuracy, for phases and for times.
        test: Threshold of the test accuracy, likewise.
        definition: Others of :func:`~grokscope.analysis.phases.phase`. Its ``budget`` is for
            phases alone.

    Raises:
        ValueError: If there are no two such settings, only one is given, and as
            :func:`~grokscope.analysis.phases.phase_table`.
    """
    every = [Snapshot.of(run) for run in runs]
    if (x is None) != (y is None):
        raise ValueError(f"x and y must be both given or both left to choose, got {x!r}, {y!r}.")
    if x is None or y is None:
        x, y = swept_keys(run_groups(every))
    table = phase_table(every, x, y, train=train, test=test, **definition)
    cells: dict[tuple[int, int], list[GrokkingTimes]] = {}
    for run in every:
        cell = _place(table.y, run, y), _place(table.x, run, x)
        cells.setdefault(cell, []).append(run.grokking(train, test))
    shape = len(table.y), len(table.x)
    generalised, delay = np.full(shape, np.nan), np.full(shape, np.nan)
    counts = np.zeros(shape, dtype=np.int64)
    for cell, times in cells.items():
        counts[cell] = len(times)
        generalised[cell] = _median([own.generalised for own in times])
        delay[cell] = _median([own.delay for own in times if own.memorised is not None])
    return PhaseDiagram(table, generalised, delay, counts)


def swept_keys(groups: RunGroups) -> tuple[str, str]:
    """The two settings of a sweep that span the most cells; of equally many, the first two.

    They decide what is learned (:data:`~grokscope.analysis.delays.TRAINING`), are numbers in every
    run, and neither follows from the other, as the number of outputs does from the modulus.

    Raises:
        ValueError: If there are no two.
    """
    values = {
        key: [as_number(group.settings.get(key)) for group in groups.groups]
        for key in groups.keys
        if key.partition(".")[0] in TRAINING
    }
    numeric = {key: own for key, own in values.items() if not any(map(math.isnan, own))}
    spanned = {
        (first, second): len(set(zip(numeric[first], numeric[second], strict=True)))
        for first, second in combinations(numeric, 2)
    }
    free = [
        pair for pair, cells in spanned.items() if cells > max(len(set(numeric[k])) for k in pair)
    ]
    if not free:
        raise ValueError(
            "runs must differ in two settings of the task, net or model that are numbers and "
            f"independent of each other, got {', '.join(numeric) or 'none'}."
        )
    return max(free, key=spanned.__getitem__)


def _place(axis: Array, run: Run, name: str) -> int:
    return int(np.searchsorted(axis, _setting(run, name)))


def _median(times: list[int | None]) -> float:
    """Times that were never reached are longer than all others."""
    if not times:
        return math.nan
    ordered = sorted(math.inf if time is None else float(time) for time in times)
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return middle[0] if middle[0] == middle[1] else sum(middle) / 2
