"""Rows of a series on a logarithmic axis of epochs: which count, fewer of them, and between."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def known_rows(epochs: ArrayLike, values: ArrayLike) -> tuple[Array, Array]:
    """The rows with a finite value, by ascending epoch; of those of one epoch, the last.

    Args:
        epochs: (rows,) >= 0, in any order.
        values: (rows,) NaN and infinite ones are passed over.

    Raises:
        ValueError: For shapes that differ or epochs below zero.
    """
    when, what = (np.asarray(each, dtype=np.float64) for each in (epochs, values))
    if when.ndim != 1 or when.shape != what.shape:
        raise ValueError(
            f"epochs and values must be (rows,) each, got {when.shape}, {what.shape}."
        )
    known = np.isfinite(when) & np.isfinite(what)
    when, what = when[known], what[known]
    if len(when) and when.min() < 0:
        raise ValueError(f"epochs must be >= 0, got {when.min():g}.")
    if (np.diff(when) > 0).all():
        return when, what
    order = np.argsort(when, kind="stable")
    when, what = when[order], what[order]
    last = np.append(np.diff(when) > 0, True)
    return when[last], what[last]


def even_rows(times: Array, points: int, offset: float = 1.0) -> NDArray[np.intp]:
    """Numbers of at most ``points`` of ascending times, evenly in log(time + offset).

    Those nearest to evenly spaced places; the first and the last are always among them.
    """
    if len(times) <= points:
        return np.arange(len(times))
    x = np.log(times + offset)
    places = np.linspace(x[0], x[-1], points)
    above = np.searchsorted(x, places).clip(1, len(x) - 1)
    return np.unique(above - (places - x[above - 1] <= x[above] - places))


def interpolated(at: Array, times: Array, values: Array, offset: float = 1.0) -> Array:
    """Values between rows, linear in log(time + offset); NaN before the first and after the last.

    Args:
        at: (points,) where.
        times: (rows,) ascending, rows >= 1.
        values: (rows,).
        offset: Added to times before the logarithm.
    """
    x = np.log(times + offset)
    return np.interp(np.log(at + offset), x, values, left=np.nan, right=np.nan)
