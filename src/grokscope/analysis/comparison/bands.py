"""Mean and spread of one metric over the runs of a group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.analysis.comparison.rows import even_rows, interpolated, known_rows
from grokscope.analysis.comparison.snapshot import Snapshot
from grokscope.analysis.run import Run
from grokscope.validation import require_choice, require_int

Array = NDArray[np.float64]

POINTS = 400
SPREADS = ("deviation", "range")
SCALES = ("linear", "log")


@dataclass(frozen=True)
class Band:
    """A metric over runs.

    Attributes:
        epochs: (points,) ascending; shares of the generalisation time where aligned at it.
        mean: (points,) over the runs that had rows before and after, or there; geometric for
            ``scale="log"``.
        low: (points,) lower end; NaN for a standard deviation of one run.
        high: (points,) upper end.
        count: (points,) runs that the mean is of.
        left_out: Runs without a known row, or without a generalisation time where aligned at it.
    """

    epochs: Array
    mean: Array
    low: Array
    high: Array
    count: NDArray[np.int64]
    left_out: int


@dataclass(frozen=True)
class _Rows:
    """Known rows of a run: times in units of its own, values, and one epoch in those units."""

    times: Array
    values: Array
    epoch: float


def band(
    runs: Iterable[Run],
    name: str,
    *,
    aligned: bool = False,
    spread: str = "deviation",
    scale: str = "linear",
    points: int = POINTS,
) -> Band:
    """Mean and spread of one metric over runs, at common epochs.

    Args:
        runs: Of a group.
        name: Of a series, such as ``test_loss``, ``gop/batch/trace``, ``gop/batch/trace[embed]``.
        aligned: Time is in units of each run's generalisation time by its own thresholds
            (:meth:`~grokscope.Run.grokking_as_configured`), which lies at 1. Runs that never
            generalised, or did so at epoch 0, are left out.
        spread: As :func:`curve_band`.
        scale: As :func:`curve_band`.
        points: As :func:`curve_band`.

    Raises:
        ValueError: As :func:`curve_band`.
    """
    curves, units, without = [], [], 0
    for run in runs:
        own = Snapshot.of(run)
        unit = own.grokking_as_configured().generalised if aligned else 1
        found = own.curve(name) if unit else None
        if found is None or not unit:
            without += 1
            continue
        curves.append(found)
        units.append(unit)
    found_band = curve_band(curves, units, spread=spread, scale=scale, points=points)
    left_out = found_band.left_out + without
    return Band(**{**vars(found_band), "left_out": left_out})


def curve_band(
    curves: Iterable[tuple[ArrayLike, ArrayLike]],
    units: Iterable[float] | None = None,
    *,
    spread: str = "deviation",
    scale: str = "linear",
    points: int = POINTS,
) -> Band:
    r"""Mean and spread of curves whose rows need not be at the same epochs.

    The common times are the union of those of the curves, each and all of them thinned to at most
    ``points`` that are even on a logarithmic axis; the first, such as epoch 0, is kept. A curve's
    value there is linear in log(epoch + 1) between its own rows, and none before its first or
    after its last row: nothing is extrapolated, and the mean may step where a curve ends.

    Args:
        curves: Epochs (rows,) >= 0 and values (rows,) of each.
        units: Epochs that are one unit of time, for each curve; None is 1 for all.
        spread: ``deviation``: mean less and plus the standard deviation over runs (n - 1);
            ``range``: smallest and largest value.
        scale: ``log``: mean and deviation are of the logarithms, so the mean is geometric and
            the ends its quotient and product with :math:`\exp(\mathrm{sd})`; values between rows
            are linear in log-log, and rows that are not positive are passed over.
        points: At most so many times.

    Raises:
        ValueError: For an unknown spread or scale, fewer than 2 points, shapes that differ, or
            epochs below zero.
    """
    require_choice("spread", spread, SPREADS)
    require_choice("scale", scale, SCALES)
    require_int("points", points, minimum=2)
    every = list(curves)
    each = [1.0] * len(every) if units is None else [float(unit) for unit in units]
    rows = [_rows(*curve, unit, scale) for curve, unit in zip(every, each, strict=True)]
    known = [own for own in rows if len(own.times)]
    left_out = len(rows) - len(known)
    if not known:
        empty = np.empty(0)
        return Band(empty, empty, empty, empty, np.empty(0, dtype=np.int64), left_out)
    times = _common(known, points)
    table = np.stack([interpolated(times, own.times, own.values, own.epoch) for own in known])
    with np.errstate(over="ignore", invalid="ignore"):  # of a run that diverged
        count, mean, low, high = _spread(table, spread)
        if scale == "log":
            mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
    return Band(times, mean, low, high, count, left_out)


def _rows(epochs: ArrayLike, values: ArrayLike, unit: float, scale: str) -> _Rows:
    when, what = known_rows(epochs, values)
    if scale == "log":
        when, what = when[what > 0], np.log(what[what > 0])
    return _Rows(when / unit, what, 1 / unit)


def _common(known: list[_Rows], points: int) -> Array:
    """Union of the times, at most ``points``; a run is thinned first, for speed."""
    epoch = float(np.median([own.epoch for own in known]))
    own_times = [own.times[even_rows(own.times, points, epoch)] for own in known]
    union = reduce(np.union1d, own_times)
    return union[even_rows(union, points, epoch)]


def _spread(table: Array, spread: str) -> tuple[NDArray[np.int64], Array, Array, Array]:
    """Count, mean and both ends over (runs, points), of which some are NaN."""
    count = np.isfinite(table).sum(0)
    mean = np.nansum(table, 0) / count
    if spread == "range":
        return count, mean, np.nanmin(table, 0), np.nanmax(table, 0)
    squares = np.nansum((table - mean) ** 2, 0)
    variance = np.full(len(mean), np.nan)
    np.divide(squares, count - 1, out=variance, where=count > 1)
    deviation = np.sqrt(variance)
    return count, mean, mean - deviation, mean + deviation
