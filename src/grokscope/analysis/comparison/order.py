"""Which measures move before generalisation, and whose movement comes with its time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from grokscope.analysis.comparison.change_points import ChangePoint, change_point
from grokscope.analysis.comparison.snapshot import Snapshot
from grokscope.analysis.run import Run

Array = NDArray[np.float64]

SHARES = ("acc", "accuracy")
FEWEST = 4
EXACT = 7  # runs up to which all orders are counted
ROUNDING = 1e-12


@dataclass(frozen=True)
class Mover:
    """A series, and when it changes relative to generalisation.

    Attributes:
        name: Of the series; a layer's is ``gop/batch/trace[embed]``.
        n: Runs that generalised and have a change point of it.
        median_ratio: Of epoch of change / epoch of generalisation, over the runs.
        low: Lower quartile of the ratio.
        high: Upper quartile.
        strength: Median share of variance that the change explains; a low one says that there is
            hardly a step, and the ratio is of little meaning.
        precedes: Share of the runs in which the change came before generalisation.
        correlation: Spearman's, of the epochs of change with those of generalisation; NaN for
            fewer than 4 runs, or where one of them is the same in all.
        p_value: Of both sides.
        q_value: By Benjamini and Hochberg, over all series that have a p-value.
    """

    name: str
    n: int
    median_ratio: float
    low: float
    high: float
    strength: float
    precedes: float
    correlation: float
    p_value: float
    q_value: float


def movers(runs: Iterable[Run]) -> tuple[Mover, ...]:
    """Order of the change points of every series of one number a row, earliest first.

    Generalisation is by each run's own thresholds; runs that never generalised, or did so at
    epoch 0, do not count.

    Returns:
        As :func:`rank_movers`.
    """
    times: list[float] = []
    changes: list[dict[str, ChangePoint]] = []
    for run in map(Snapshot.of, runs):
        if generalised := run.grokking_as_configured().generalised:
            times.append(float(generalised))
            changes.append(change_points(run))
    return rank_movers(times, changes)


def change_points(run: Run) -> dict[str, ChangePoint]:
    """The change point of each series of one number a row; NaN where there is none.

    Accuracies are taken as they are. From chance to 1 they may range over a factor of 100 too, but
    what counts is their rise to 1.
    """
    return {
        name: change_point(*curve, linear=name.endswith(SHARES))
        for name, curve in Snapshot.of(run).curves()
    }


def rank_movers(
    generalised: Sequence[float], changes: Sequence[Mapping[str, ChangePoint]]
) -> tuple[Mover, ...]:
    """Movers by their median ratio, then by name.

    What it says, and what not:

    - A change point is the middle of a rise, a generalisation time the end of one: the ratio of
      ``test_acc`` itself is below 1. A measure that comes first comes before ``test_acc``.
    - Series without a step have a change point too, somewhere; see ``strength``.
    - A change point lies within the run. If runs end a certain time after they generalise, that
      alone correlates the two; compare runs of equal length.
    - Series of one run are not independent; q-values bound the share of false discoveries under
      positive dependence (Benjamini & Yekutieli 2001), which we take to hold.

    Args:
        generalised: Epoch of generalisation of each run, > 0.
        changes: Change points of each run by name.

    Returns:
        One for each name with a change point in at least one run. p-values are exact, by counting
        all orders, up to 7 runs; beyond, of Student's t, but never below 2 / n!, the least that n
        runs can show.

    Raises:
        ValueError: For a different number of times and runs, or times that are not > 0.

    Source:
        Benjamini & Hochberg 1995.
    """
    if len(generalised) != len(changes):
        raise ValueError(
            f"changes must be one for each time, got {len(changes)} and {len(generalised)}."
        )
    if not all(0 < time < math.inf for time in generalised):
        raise ValueError(f"generalised must be finite epochs > 0, got {list(generalised)}.")
    names = dict.fromkeys(name for own in changes for name in own)
    found = [
        _mover(name, pairs) for name in names if (pairs := _pairs(name, generalised, changes))
    ]
    return tuple(sorted(_with_q(found), key=lambda mover: (mover.median_ratio, mover.name)))


def _pairs(
    name: str, generalised: Sequence[float], changes: Sequence[Mapping[str, ChangePoint]]
) -> list[tuple[float, ChangePoint]]:
    """Time of generalisation and change point of the runs that have both."""
    return [
        (time, own[name])
        for time, own in zip(generalised, changes, strict=True)
        if name in own and math.isfinite(own[name].epoch)
    ]


def _mover(name: str, pairs: list[tuple[float, ChangePoint]]) -> Mover:
    times = np.array([time for time, _ in pairs])
    epochs = np.array([change.epoch for _, change in pairs])
    strength = float(np.median([change.strength for _, change in pairs]))
    low, middle, high = np.quantile(epochs / times, (0.25, 0.5, 0.75)).tolist()
    correlation, p_value = spearman(epochs, times)
    precedes = float((epochs < times).mean())
    return Mover(
        name, len(pairs), middle, low, high, strength, precedes, correlation, p_value, math.nan
    )


def _with_q(found: list[Mover]) -> list[Mover]:
    tested = [mover for mover in found if not math.isnan(mover.p_value)]
    q = stats.false_discovery_control([mover.p_value for mover in tested]) if tested else []
    q_values = {mover.name: float(value) for mover, value in zip(tested, q, strict=True)}
    return [replace(mover, q_value=q_values.get(mover.name, math.nan)) for mover in found]


def spearman(x: Array, y: Array) -> tuple[float, float]:
    """Rank correlation (the same for logarithms), and its p-value of both sides.

    NaN for fewer than 4 pairs or constant values. Student's t would give p = 0 for four runs in
    perfect order, which 2 of 24 orders are; so it is counted where that is quick.
    """
    n = len(x)
    if n < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    if n > EXACT:
        test = stats.spearmanr(x, y)
        return float(test.statistic), max(float(test.pvalue), 2 / math.factorial(n))
    a, b = (ranks - ranks.mean() for ranks in (stats.rankdata(x), stats.rankdata(y)))
    every = b[_orders(n)] @ a / math.sqrt((a @ a) * (b @ b))
    correlation = float(every[0])  # the first order is the one that came
    return correlation, float((np.abs(every) >= abs(correlation) - ROUNDING).mean())


@cache
def _orders(n: int) -> NDArray[np.intp]:
    """(n!, n) all orders; the first is 0..n-1."""
    return np.array(list(permutations(range(n))))
