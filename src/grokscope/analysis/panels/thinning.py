"""Fewer points of a curve that look like all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grokscope.validation import require_int

Rows = NDArray[np.int64]


def thinned_rows(epochs: NDArray, values: NDArray, points: int) -> Rows:
    """Rows to draw of a curve, at most about ``points``: spikes stay.

    Epochs are cut into intervals twice, evenly and evenly on a log axis, so that either axis may
    be shown. Of each interval the lowest, the highest, the first and the last value are kept:
    at the resolution of the intervals the curve covers the same area. Rows without a finite value
    are left out.

    Args:
        epochs: (n,) ascending, from 0.
        values: (n,).
        points: Aim; a curve of no more finite values is kept as it is.

    Returns:
        (m,) ascending row numbers.
    """
    require_int("points", points, minimum=16)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= points:
        return known
    x, y = epochs[known].astype(float), values[known]
    count = points // 8
    kept = [_extremes(_intervals(scale, count), y) for scale in (x, np.log1p(x))]
    return known[np.unique(np.concatenate(kept))]


def thinned_epochs(epochs: NDArray, count: int) -> Rows:
    """At most ``count`` rows, half of them even in epochs and half on a log axis; both ends."""
    if len(epochs) <= count:
        return np.arange(len(epochs))
    x = epochs.astype(float)
    wanted = [np.linspace(scale[0], scale[-1], count // 2) for scale in (x, np.log1p(x))]
    places = [np.searchsorted(scale, w) for scale, w in zip((x, np.log1p(x)), wanted, strict=True)]
    return np.unique(np.concatenate(places).clip(0, len(x) - 1))


def _intervals(x: NDArray, count: int) -> Rows:
    """Number of the interval that each of the ascending values lies in."""
    width = (x[-1] - x[0]) / count or 1.0
    return np.minimum(((x - x[0]) / width).astype(np.int64), count - 1)


def _extremes(interval: Rows, y: NDArray) -> Rows:
    """Places of each interval's lowest, highest, first and last value."""
    first = np.flatnonzero(np.diff(interval, prepend=-1))
    last = np.append(first[1:], len(y)) - 1
    number = np.repeat(np.arange(len(first)), last - first + 1)
    found = [first, last]
    for reduce in (np.minimum, np.maximum):
        hits = np.flatnonzero(y == reduce.reduceat(y, first)[number])
        found.append(hits[np.unique(number[hits], return_index=True)[1]])
    return np.concatenate(found)
