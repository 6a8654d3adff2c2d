"""How fast a curve moves on a log axis, from rows as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MovingAverage:
    r"""Exponential moving average of a curve over :math:`u = \log_{10}(1 + \text{epoch})`.

    Rows need not be evenly spaced: between two rows the curve counts as a straight line in u,
    for which the average is exact, so that more rows on the same lines change nothing. Each
    row gives a new object.

    Attributes:
        position: u of the last row, in decades; None before the first.
        value: Of the last row.
        average: Of the curve up to there.

    Source:
        Zumbach & Müller 2001, "Operators on inhomogeneous time series", Int. J. Theor. Appl.
        Finance 4:147, the recursion for linear interpolation.
    """

    position: float | None = None
    value: float = 0.0
    average: float = 0.0

    def after(self, epoch: int, value: float, width: float) -> MovingAverage:
        """With one more row; one that is not finite, or not later than the last, is passed over.

        Args:
            epoch: Of the row.
            value: Of the curve there.
            width: Decades over which the average forgets (by a factor e).
        """
        position = math.log10(1 + epoch)
        if not math.isfinite(value) or (self.position is not None and position <= self.position):
            return self
        if self.position is None:
            return MovingAverage(position, value, value)
        step = (position - self.position) / width
        kept, line = math.exp(-step), -math.expm1(-step) / step
        average = kept * self.average + (line - kept) * self.value + (1 - line) * value
        return MovingAverage(position, value, average)

    def speed(self, width: float) -> float:
        """Slope of the average, in units of the curve a decade of epochs."""
        return (self.value - self.average) / width
