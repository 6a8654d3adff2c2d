"""The middle of a rise of accuracy, from a sigmoid fitted over the logarithm of epochs."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

from grokscope.validation import require_float, require_int

Floats = NDArray[np.float64]
MIN_ROWS = 6
MAX_ERROR = 0.5
"""Of ln t*: beyond it the rows do not say where the middle lies."""


@dataclass(frozen=True)
class SigmoidFit:
    """A sigmoid over ln epoch; all numbers NaN if there is none.

    Attributes:
        time: t*, epoch of the middle of the rise.
        standard_error: Of t*, epochs: t* times that of ln t*. Least squares' own, for independent
            deviations from the curve.
        low: Accuracy before.
        high: Accuracy after.
        width: Scale of the rise in ln epoch; it goes from 12 to 88 percent in 4 widths.
        failure: Why there is no fit; None if there is one.
    """

    time: float
    standard_error: float
    low: float
    high: float
    width: float
    failure: str | None


def sigmoid_fit(
    epochs: ArrayLike,
    accuracy: ArrayLike,
    *,
    rows_per_decade: int = 20,
    smallest_rise: float = 0.2,
) -> SigmoidFit:
    r"""Fit :math:`a(t) = a_0 + (a_1 - a_0) / (1 + (t / t^*)^{-1/w})` by least squares.

    Rows are first averaged within equal parts of each decade, so that a run recorded at every
    epoch counts its early part like its late part. Where the rise lies between two rows, t* is
    the middle of their logarithms and its error that of a uniform distribution between them.

    Args:
        epochs: (rows,) ascending; epoch 0, which has no logarithm, is passed over.
        accuracy: (rows,) in [0, 1]; NaN rows are passed over.
        rows_per_decade: Parts of a decade.
        smallest_rise: a1 - a0 below which there is no rise.

    Raises:
        ValueError: If the two are not (rows,) each, or an argument is out of range.
    """
    require_int("rows_per_decade", rows_per_decade)
    require_float("smallest_rise", smallest_rise, above=0.0, below=1.0)
    x, y = _averaged(epochs, accuracy, rows_per_decade)
    if len(x) < MIN_ROWS:
        return _failed(f"it has {len(x)} rows that can be told apart, and needs {MIN_ROWS}")
    if y.max() - y[: int(y.argmax()) + 1].min() < smallest_rise:
        return _failed(f"accuracy rises by less than {smallest_rise:g}")
    try:
        (middle, width, low, rise), covariance = _least_squares(x, y)
    except RuntimeError:
        return _failed("least squares does not converge")
    if rise < smallest_rise:
        return _failed(f"the sigmoid rises by less than {smallest_rise:g}")
    if not x[0] < middle < x[-1]:
        return _failed("the middle of the rise is not between the first and the last row")
    at = int(np.searchsorted(x, middle))
    gap, error = float(x[at] - x[at - 1]), math.sqrt(covariance[0, 0])
    if width < gap / 8:
        middle, error = (x[at] + x[at - 1]) / 2, gap / math.sqrt(12)
    if not error < MAX_ERROR:
        return _failed(f"ln t* has a standard error of {error:.2g}, more than {MAX_ERROR:g}")
    time = math.exp(middle)
    return SigmoidFit(time, time * error, low, low + rise, width, None)


def _failed(reason: str) -> SigmoidFit:
    nan = math.nan
    return SigmoidFit(nan, nan, nan, nan, nan, reason)


def _averaged(
    epochs: ArrayLike, accuracy: ArrayLike, rows_per_decade: int
) -> tuple[Floats, Floats]:
    """Means of ln epoch and of accuracy in each part of a decade that has rows."""
    times, values = (np.asarray(a, dtype=np.float64) for a in (epochs, accuracy))
    if times.ndim != 1 or times.shape != values.shape:
        raise ValueError(
            f"epochs and accuracy must be (rows,) each, got {times.shape} and {values.shape}."
        )
    known = (times > 0) & np.isfinite(values)
    x, y = np.log(times[known]), values[known]
    parts = np.floor(x / math.log(10) * rows_per_decade + 1e-9)
    _, part = np.unique(parts, return_inverse=True)
    count = np.bincount(part)
    return np.bincount(part, x) / count, np.bincount(part, y) / count


def _least_squares(x: Floats, y: Floats) -> tuple[tuple[float, float, float, float], Floats]:
    """Middle, width, low and rise, and their covariance."""
    half = (y.min() + y.max()) / 2
    start = x[int((y >= half).argmax())]
    ends = (x[0] - 1, x[-1] + 1)
    narrowest = float(np.diff(x).min()) / 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # an infinite covariance says it too
        found, covariance = curve_fit(
            lambda x, middle, width, low, rise: low + rise * expit((x - middle) / width),
            x,
            y,
            p0=(start, 0.3, *np.clip([y.min(), y.max() - y.min()], 0.0, 1.0)),
            bounds=((ends[0], narrowest, 0.0, 0.0), (ends[1], 10.0, 1.0, 1.0)),
        )
    middle, width, low, rise = map(float, found)
    return (middle, width, low, rise), np.asarray(covariance, dtype=np.float64)
