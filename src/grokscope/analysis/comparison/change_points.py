"""When a series changed: the one step that explains most of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokscope.analysis.comparison.rows import known_rows

Array = NDArray[np.float64]

POINTS = 400
FEWEST = 8
WIDE = 100.0  # a positive quantity that ranges over more is taken by its logarithm
ROUNDING = 1e-12


@dataclass(frozen=True)
class ChangePoint:
    """The best single step in a series.

    Attributes:
        epoch: When, between recorded epochs; NaN if there is none.
        strength: Share of the variance that the step explains, in [0, 1]; NaN if there is none.
    """

    epoch: float
    strength: float


NONE = ChangePoint(math.nan, math.nan)


def change_point(epochs: ArrayLike, values: ArrayLike, *, linear: bool = False) -> ChangePoint:
    r"""The step in log-epoch that fits a series best, by least squares.

    The rows are resampled at m = 400 places :math:`x_i`, even in x = log(epoch + 1) from the first
    row to the last, linearly in between; :math:`y_i` are the values there. Of all steps after k
    places, that of the least squared error has the largest

    .. math:: g_k = \frac{m}{k (m - k)} \left(\sum_{i \le k} y_i - \bar y\right)^2, \qquad
        \text{strength} = \max_k g_k \Big/ \sum_i (y_i - \bar y)^2

    and :math:`\log(\text{epoch} + 1) = (x_k + x_{k+1}) / 2`. So a step of the size of the whole
    variance has strength 1, a straight ramp in x has 3/4 and its middle. There is always a best
    step: read the epoch with its strength, and as the middle of a rise, not as its begin. Weight
    lies evenly on x, so that a minute of early training counts as much as hours of late.

    Values that are all positive and range over a factor of more than 100 are taken by their
    logarithms, unless ``linear``.

    Args:
        epochs: (rows,) >= 0, in any order and spacing.
        values: (rows,); NaN and infinite ones are passed over.
        linear: Take values as they are, such as accuracies.

    Returns:
        NaN where fewer than 8 rows are known, or they are constant up to rounding. Of steps that
        explain the same, the first. Its epoch is known to half a place, 1.4 % over 40,000 epochs,
        or to the distance of the rows around it, whichever is larger.

    Raises:
        ValueError: For shapes that differ or epochs below zero.

    Source:
        Our choice: two constant pieces by least squares, as in binary segmentation (Scott & Knott
        1974) with one split.
    """
    when, what = known_rows(epochs, values)
    if len(when) < FEWEST:
        return NONE
    x = np.log1p(when)
    places = np.linspace(x[0], x[-1], POINTS)
    y = _centred(np.interp(places, x, _scaled(what, linear)))
    total = float(y @ y)
    if total == 0:
        return NONE
    before = np.arange(1, POINTS)
    gain = np.cumsum(y)[:-1] ** 2 * POINTS / (before * (POINTS - before))
    k = int(np.argmax(gain))
    epoch = math.expm1((places[k] + places[k + 1]) / 2)
    return ChangePoint(epoch, min(1.0, float(gain[k]) / total))


def _scaled(values: Array, linear: bool) -> Array:
    """Logarithms of a wide positive range, otherwise values within [-1, 1]."""
    low, high = values.min(), values.max()
    if not linear and low > 0 and high / WIDE > low:
        return np.log(values)
    largest = max(abs(low), abs(high))
    return values / largest if largest > 0 else values


def _centred(values: Array) -> Array:
    """Without their mean; zeros where they differ by their rounding alone."""
    spread = values.max() - values.min()
    if spread <= ROUNDING * np.abs(values).max():
        return np.zeros_like(values)
    return (values - values.mean()) / spread
