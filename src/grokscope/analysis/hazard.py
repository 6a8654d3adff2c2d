"""How much sooner one setting generalises than another, and how many seeds can show it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from grokscope.analysis.survival import EventTable, event_table
from grokscope.validation import require_float

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HazardRatio:
    """Hazard of the second group over that of the first, above 1 where the second is sooner.

    Attributes:
        ratio: exp(beta); 0 or infinite where the groups are separated (see ``finite``).
        lower: Lower end of its Wald interval; 0 where separated.
        upper: Upper end; infinite where separated.
        standard_error: Of beta, the logarithm; infinite where separated.
        p_value: Of the likelihood-ratio test of beta = 0.
        wald_p_value: Of beta over its standard error; NaN where separated.
        finite: False if the likelihood has no maximum at a finite ratio: all events of one group
            come while those of the other wait. Then only ``p_value`` says something.
        confidence: Of the interval.
    """

    ratio: float
    lower: float
    upper: float
    standard_error: float
    p_value: float
    wald_p_value: float
    finite: bool
    confidence: float


@dataclass(frozen=True)
class SeedsNeeded:
    """Size of a comparison of two settings.

    Attributes:
        events: Runs that must generalise, in both groups together.
        first: Seeds of the first group.
        second: Seeds of the second.
    """

    events: int
    first: int
    second: int


def hazard_ratio(
    first: ArrayLike,
    first_observed: ArrayLike,
    second: ArrayLike,
    second_observed: ArrayLike,
    *,
    confidence: float = 0.95,
) -> HazardRatio:
    r"""Cox's proportional hazards with one covariate, the group; Efron's way with ties.

    Maximises the partial likelihood, with d events of which :math:`d_2` in the second group, at
    each time when :math:`n_1` and :math:`n_2` are at risk,

    .. math:: \ell(\beta) = \sum_j \Big[ \beta d_{2} - \sum_{l=0}^{d-1} \ln \big(
        n_1 - \tfrac{l}{d} d_1 + (n_2 - \tfrac{l}{d} d_2) e^\beta \big) \Big]

    which is concave.

    Args:
        first: (n,) times of the first group, of event or censoring.
        first_observed: (n,) True for an event.
        second: (m,) times of the second.
        second_observed: (m,) likewise.
        confidence: Of the interval.

    Raises:
        ValueError: As :func:`~grokscope.analysis.survival.kaplan_meier`, and where no event
            happens while both groups are at risk.

    Source:
        Cox 1972; Efron 1977.
    """
    require_float("confidence", confidence, above=0.0, below=1.0)
    table = event_table(first, first_observed, second, second_observed)
    likelihood = _Likelihood(table)
    if not likelihood.informative:
        raise ValueError(
            "groups must both be at risk at one event at least: they have no common time with one."
        )
    beta, highest = likelihood.maximum()
    p_value = float(stats.chi2.sf(2 * max(highest - likelihood(0.0), 0.0), 1))
    if not math.isfinite(beta):
        ratio = math.inf if beta > 0 else 0.0
        return HazardRatio(ratio, 0.0, math.inf, math.inf, p_value, math.nan, False, confidence)
    error = likelihood.information(beta) ** -0.5
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    wald = float(2 * stats.norm.sf(abs(beta) / error))
    ends = math.exp(beta - reach), math.exp(beta + reach)
    return HazardRatio(math.exp(beta), *ends, error, p_value, wald, True, confidence)


class _Likelihood:
    """Partial log-likelihood of beta; an entry of the arrays for each event."""

    def __init__(self, table: EventTable) -> None:
        total = table.events.sum(0)
        at = np.repeat(np.arange(len(total)), total)
        before = (np.arange(len(at)) - (total.cumsum() - total)[at]) / total[at]  # l / d
        self.first, self.second = table.at_risk[:, at] - before * table.events[:, at]
        self.events = int(table.events[1].sum())

    def __call__(self, beta: float) -> float:
        return float(beta * self.events - np.log(self.first + self.second * math.exp(beta)).sum())

    @property
    def informative(self) -> bool:
        """Whether it depends on beta."""
        return bool(((self.first > 0) & (self.second > 0)).any())

    def maximum(self) -> tuple[float, float]:
        """Beta and its log-likelihood; infinite where that grows for ever."""
        if self.events == int((self.second > 0).sum()):
            denominators = np.where(self.second > 0, self.second, self.first)
            return math.inf, -float(np.log(denominators).sum())
        if self.events == int((self.first == 0).sum()):
            denominators = np.where(self.first > 0, self.first, self.second)
            return -math.inf, -float(np.log(denominators).sum())
        low, high = self._bracket()
        while high - low > 1e-13 * max(1.0, abs(low)):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if self._score(middle) > 0 else (low, middle)
        beta = (low + high) / 2
        return beta, self(beta)

    def _bracket(self) -> tuple[float, float]:
        """Where the score, which falls, changes its sign."""
        reach = 1.0
        while self._score(reach) > 0 or self._score(-reach) < 0:
            reach *= 2
        return -reach, reach

    def _shares(self, beta: float) -> Floats:
        """Chance that an event is of the second group."""
        weighted = self.second * math.exp(beta)
        return weighted / (self.first + weighted)

    def _score(self, beta: float) -> float:
        return self.events - float(self._shares(beta).sum())

    def information(self, beta: float) -> float:
        """Minus the second derivative."""
        shares = self._shares(beta)
        return float((shares * (1 - shares)).sum())


def seeds_needed(
    ratio: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    censored: float = 0.0,
    allocation: float = 0.5,
) -> SeedsNeeded:
    r"""How many seeds a log-rank comparison of two settings needs.

    .. math:: D = \frac{(z_{1-\alpha/2} + z_{power})^2}{p (1-p) (\ln HR)^2}, \qquad
        n = \frac{D}{1 - c}

    for hazards in proportion and a two-sided test. Approximate for few runs.

    Args:
        ratio: Hazard ratio that is to be seen, HR.
        power: Chance to see it.
        alpha: Level of the test.
        censored: Share c of all runs that never generalise while they last.
        allocation: Share p of the first group among all seeds.

    Returns:
        Rounded up, each group by itself.

    Raises:
        ValueError: For a ratio that is not positive or is 1, or shares out of range.

    Source:
        Schoenfeld 1981, 1983.
    """
    require_float("ratio", ratio, above=0.0)
    if ratio == 1:
        raise ValueError("ratio must differ from 1, which no number of seeds can show, got 1.")
    require_float("power", power, above=0.0, below=1.0)
    require_float("alpha", alpha, above=0.0, below=1.0)
    require_float("censored", censored, minimum=0.0, below=1.0)
    require_float("allocation", allocation, above=0.0, below=1.0)
    reach = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
    events = reach**2 / (allocation * (1 - allocation) * math.log(ratio) ** 2)
    seeds = events / (1 - censored)
    sizes = (seeds * share for share in (1.0 - censored, allocation, 1 - allocation))
    return SeedsNeeded(*(math.ceil(size - 1e-9) for size in sizes))
