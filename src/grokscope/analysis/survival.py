r"""Times that some runs never reached: survival curves and comparisons of two settings.

A run that has not generalised when it ends is **right-censored** there: its time is longer than
that. All of this takes censoring as uninformative: a run must not have been ended because it was
about to generalise, or because it never would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from grokscope.validation import require_float

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurvivalCurve:
    """Share of runs whose time is longer, as a step function: 1 before the first time.

    Attributes:
        times: (k,) distinct times, ascending, of events and of censoring.
        survival: (k,) S(t) from each time on.
        lower: (k,) lower band of S, for one time at a time.
        upper: (k,) upper band; NaN where S is 0, which says nothing about its error.
        at_risk: (k,) runs that had reached the time without an event.
        events: (k,) runs with an event at the time.
        confidence: Of the bands.
    """

    times: Floats
    survival: Floats
    lower: Floats
    upper: Floats
    at_risk: Ints
    events: Ints
    confidence: float

    @property
    def median(self) -> float:
        """First time at which S is at most 1/2; infinite if that was not reached."""
        return self._first(self.survival)

    @property
    def median_interval(self) -> tuple[float, float]:
        """Times at which the bands of S cross 1/2; infinite where they do not.

        Source:
            Brookmeyer & Crowley 1982.
        """
        return self._first(self.lower), self._first(self.upper)

    def _first(self, values: Floats) -> float:
        # products of fractions such as 4/5 * 5/8 may miss one half by their rounding
        below = np.flatnonzero(values <= 0.5 + 1e-12)
        return float(self.times[below[0]]) if len(below) else math.inf


@dataclass(frozen=True)
class LogRank:
    """Log-rank test of two groups.

    Attributes:
        statistic: Chi-square with one degree of freedom.
        p_value: Of both sides; NaN, like the statistic, where the groups are never at risk
            together when an event happens.
        observed: Events of the first group.
        expected: Events that it would have had if both had the same hazard.
    """

    statistic: float
    p_value: float
    observed: int
    expected: float


def kaplan_meier(
    times: ArrayLike, observed: ArrayLike, *, confidence: float = 0.95
) -> SurvivalCurve:
    r"""Kaplan-Meier estimate of the share of runs without an event.

    .. math:: S(t) = \prod_{t_j \le t} \left(1 - \frac{d_j}{n_j}\right), \qquad
        \frac{\mathrm{Var}\, S}{S^2} = v = \sum_{t_j \le t} \frac{d_j}{n_j (n_j - d_j)}

    (Greenwood), with bands :math:`S^{\exp(\pm z \sqrt{v} / \ln S)}`, which stay within [0, 1]
    (log-log transformation). A run censored at the time of an event was still at risk then.

    Args:
        times: (n,) of event or censoring, >= 0.
        observed: (n,) True for an event, False for a run that ended without.
        confidence: Of the bands.

    Raises:
        ValueError: For no run, shapes that differ, times below zero or not finite, or a
            confidence out of (0, 1).

    Source:
        Kaplan & Meier 1958; Kalbfleisch & Prentice 1980 (bands).
    """
    require_float("confidence", confidence, above=0.0, below=1.0)
    when, events = durations("times", times, observed)
    distinct = np.unique(when)
    happened = _count(when[events], distinct)
    at_risk = _at_risk(when, distinct)
    survival = np.cumprod(1 - happened / at_risk, dtype=np.float64)
    survival[happened.cumsum() == len(when)] = 0.0
    left = at_risk - happened
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(happened / (at_risk * left))
        spread = _quantile(confidence) * np.sqrt(greenwood) / np.log(survival)
        lower, upper = survival ** np.exp(-spread), survival ** np.exp(spread)
    lower[survival == 1] = upper[survival == 1] = 1.0
    lower[survival == 0], upper[survival == 0] = 0.0, np.nan
    return SurvivalCurve(distinct, survival, lower, upper, at_risk, happened, confidence)


def log_rank(
    first: ArrayLike,
    first_observed: ArrayLike,
    second: ArrayLike,
    second_observed: ArrayLike,
) -> LogRank:
    r"""Whether two groups have the same hazard: the log-rank test.

    .. math:: \chi^2 = \frac{\left(\sum_j d_{1j} - d_j n_{1j} / n_j\right)^2}
        {\sum_j d_j \frac{n_{1j}}{n_j} \frac{n_{2j}}{n_j} \frac{n_j - d_j}{n_j - 1}}

    over the times j of events; the variance is that of the hypergeometric distribution.

    Args:
        first: (n,) times of the first group, of event or censoring.
        first_observed: (n,) True for an event.
        second: (m,) times of the second.
        second_observed: (m,) likewise.

    Raises:
        ValueError: As :func:`kaplan_meier`.

    Source:
        Mantel 1966; Peto & Peto 1972.
    """
    table = event_table(first, first_observed, second, second_observed)
    total, risk = table.events.sum(0), table.at_risk.sum(0)
    share = table.at_risk[0] / risk
    expected = float((total * share).sum())
    many = np.maximum(risk - 1, 1)  # one at risk: no variance
    variance = float((total * share * (1 - share) * (risk - total) / many).sum())
    observed = int(table.events[0].sum())
    statistic = (observed - expected) ** 2 / variance if variance > 0 else math.nan
    return LogRank(statistic, float(stats.chi2.sf(statistic, 1)), observed, expected)


@dataclass(frozen=True)
class EventTable:
    """Two groups at the k distinct times of events of either.

    Attributes:
        at_risk: (2, k).
        events: (2, k).
    """

    at_risk: Ints
    events: Ints


def event_table(
    first: ArrayLike,
    first_observed: ArrayLike,
    second: ArrayLike,
    second_observed: ArrayLike,
) -> EventTable:
    """What both groups had at risk, and their events, at each time of an event.

    Raises:
        ValueError: As :func:`kaplan_meier`.
    """
    groups = (
        durations("first", first, first_observed),
        durations("second", second, second_observed),
    )
    distinct = np.unique(np.concatenate([when[events] for when, events in groups]))
    return EventTable(
        np.stack([_at_risk(when, distinct) for when, _ in groups]),
        np.stack([_count(when[events], distinct) for when, events in groups]),
    )


def durations(name: str, times: ArrayLike, observed: ArrayLike) -> tuple[Floats, Mask]:
    """Times and whether each is of an event, checked.

    Raises:
        ValueError: As :func:`kaplan_meier`.
    """
    when, events = np.asarray(times, dtype=np.float64), np.asarray(observed)
    if when.ndim != 1 or when.shape != events.shape or not len(when):
        raise ValueError(
            f"{name} and what was observed must be (n,) each with n >= 1, got {when.shape} and "
            f"{events.shape}."
        )
    if not (np.isfinite(when).all() and (when >= 0).all()):
        raise ValueError(f"{name} must be finite times >= 0, got {when.tolist()}.")
    if not np.isin(events, (0, 1)).all():
        raise ValueError(f"what was observed must be true or false, got {events.tolist()}.")
    return when, events.astype(bool)


def _count(values: Floats, distinct: Floats) -> Ints:
    """How often each of ``distinct`` is among ``values``, which hold nothing else."""
    return np.bincount(np.searchsorted(distinct, values), minlength=len(distinct))


def _at_risk(when: Floats, distinct: Floats) -> Ints:
    """How many times are not before each of ``distinct``."""
    return len(when) - np.searchsorted(np.sort(when), distinct)


def _quantile(confidence: float) -> float:
    """Of the normal distribution, for a two-sided interval."""
    return float(stats.norm.ppf((1 + confidence) / 2))
