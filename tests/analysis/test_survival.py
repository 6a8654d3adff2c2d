"""Survival curves and comparisons: by hand, scipy, lifelines' numbers, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from grokscope.analysis.hazard import hazard_ratio, seeds_needed
from grokscope.analysis.survival import kaplan_meier, log_rank

# Remission of leukaemia, weeks (Gehan 1965): treated, of whom 12 are censored, and control.
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
SEEN = [1] * 9 + [0] * 12
CONTROL = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
ALL_SEEN = [1] * 21
GEHAN = (TREATED, SEEN, CONTROL, ALL_SEEN)


def drawn(n, mean, limit, seed):
    """Whole exponential times, with ties, censored at a limit."""
    times = np.ceil(np.random.default_rng(seed).exponential(mean, n))
    return np.minimum(times, limit), times <= limit


def test_a_curve_by_hand():
    # events at 2, 3 (two of four at risk), 7; censored at 2 and 5
    curve = kaplan_meier([3, 2, 7, 2, 3, 5], [1, 1, 1, 0, 1, 0])
    assert curve.times.tolist() == [2, 3, 5, 7]
    assert curve.at_risk.tolist() == [6, 4, 2, 1]
    assert curve.events.tolist() == [1, 2, 0, 1]
    np.testing.assert_allclose(curve.survival, [5 / 6, 5 / 12, 5 / 12, 0])
    greenwood = 1 / (6 * 5) + 2 / (4 * 2)
    reach = 1.959963984540054 * math.sqrt(greenwood) / math.log(5 / 12)
    assert curve.lower[1] == pytest.approx((5 / 12) ** math.exp(-reach))
    assert curve.upper[1] == pytest.approx((5 / 12) ** math.exp(reach))
    assert curve.lower[1] < curve.survival[1] < curve.upper[1]
    assert curve.lower[3] == 0
    assert math.isnan(curve.upper[3])
    assert curve.median == 3


def test_lifelines_curve_of_the_leukaemia_data():
    # lifelines 0.30.3, KaplanMeierFitter().fit(TREATED, SEEN), at weeks 6, 7, 10, 13, 16, 22, 23
    at = [6, 7, 10, 13, 16, 22, 23]
    survival = [
        0.857142857142857,
        0.8067226890756299,
        0.7529411764705878,
        0.6901960784313722,
        0.6274509803921566,
        0.5378151260504199,
        0.44817927170868327,
    ]
    lower = [
        0.6197179552659838,
        0.5631465646222333,
        0.5031995107999564,
        0.4316102224861839,
        0.36751085598750194,
        0.26777893676713493,
        0.18805200595923233,
    ]
    upper = [
        0.9515517476469969,
        0.9228090192028802,
        0.8893618351692651,
        0.8490659633494505,
        0.8049121894718411,
        0.7467907176353943,
        0.6801426284952412,
    ]
    curve = kaplan_meier(TREATED, SEEN)
    rows = np.searchsorted(curve.times, at)
    for found, expected in ((curve.survival, survival), (curve.lower, lower)):
        np.testing.assert_allclose(found[rows], expected, rtol=1e-12)
    np.testing.assert_allclose(curve.upper[rows], upper, rtol=1e-12)
    assert (curve.median, curve.median_interval) == (23, (13, math.inf))
    control = kaplan_meier(CONTROL, ALL_SEEN)
    assert (control.median, control.median_interval) == (8, (4, 11))


@pytest.mark.parametrize("seed", range(4))
def test_curves_of_scipy(seed):
    times, observed = drawn(40, 8, 12, seed)
    curve = kaplan_meier(times, observed, confidence=0.9)
    data = stats.CensoredData(uncensored=times[observed], right=times[~observed])
    oracle = stats.ecdf(data).sf
    np.testing.assert_array_equal(curve.times, oracle.quantiles)
    np.testing.assert_allclose(curve.survival, oracle.probabilities, atol=1e-14)
    with np.errstate(divide="ignore", invalid="ignore"):
        band = oracle.confidence_interval(0.9, method="log-log")
    inner = (curve.survival > 0) & (curve.survival < 1)
    assert inner.sum() > 5
    np.testing.assert_allclose(curve.lower[inner], band.low.probabilities[inner], rtol=1e-12)
    np.testing.assert_allclose(curve.upper[inner], band.high.probabilities[inner], rtol=1e-12)


def test_without_censoring_it_is_the_share_of_longer_times():
    times = np.random.default_rng(0).permutation(np.arange(1, 11))
    curve = kaplan_meier(times, np.ones(10))
    np.testing.assert_allclose(curve.survival, 1 - np.arange(1, 11) / 10, atol=1e-15)
    assert curve.median == 5


def test_bands_hold_the_truth_as_often_as_they_say():
    rng, held = np.random.default_rng(1), []
    for _ in range(400):
        times = rng.exponential(10, 40)
        limit = rng.exponential(25, 40)
        curve = kaplan_meier(np.minimum(times, limit), times <= limit)
        at = np.searchsorted(curve.times, 7.0) - 1
        held.append(curve.lower[at] <= math.exp(-0.7) <= curve.upper[at])
    assert 0.92 < np.mean(held) < 0.98


def test_medians_that_were_not_reached_are_infinite():
    curve = kaplan_meier([4, 9, 9, 9], [1, 0, 0, 0])
    assert curve.median == math.inf
    assert curve.median_interval[1] == math.inf
    never = kaplan_meier([9, 9], [0, 0])
    assert never.median_interval == (math.inf, math.inf)
    np.testing.assert_array_equal(never.survival, [1])
    np.testing.assert_array_equal(never.lower, [1])


def test_equal_times_have_their_median_there():
    curve = kaplan_meier([7, 7, 7], [1, 1, 1])
    assert curve.median == 7
    assert curve.median_interval == (7, math.inf)


def test_lifelines_log_rank_of_the_leukaemia_data():
    # lifelines 0.30.3, logrank_test
    found = log_rank(*GEHAN)
    assert found.statistic == pytest.approx(16.792940989216547, rel=1e-12)
    assert found.p_value == pytest.approx(4.168809109334511e-05, rel=1e-10)
    assert found.observed == 9
    assert found.expected == pytest.approx(19.25, abs=0.01)  # Gehan's data in most textbooks


@pytest.mark.parametrize("seed", range(4))
def test_log_rank_of_scipy(seed):
    first, second = drawn(30, 10, 12, seed), drawn(20, 6, 12, seed + 50)
    found = log_rank(*first, *second)
    samples = (
        stats.CensoredData(uncensored=times[seen], right=times[~seen])
        for times, seen in (first, second)
    )
    oracle = stats.logrank(*samples)
    assert found.statistic == pytest.approx(oracle.statistic**2, rel=1e-10)
    assert found.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    swapped = log_rank(*second, *first)
    assert swapped.statistic == pytest.approx(found.statistic, rel=1e-10)
    total = found.observed + swapped.observed
    assert found.expected + swapped.expected == pytest.approx(total)


def test_log_rank_by_hand():
    # at 1: one of two against none of two; at 3: one of two, alone
    found = log_rank([1, 3], [1, 1], [2, 3], [0, 0])
    assert found.expected == pytest.approx(0.5 + 0.5)
    assert found.observed == 2
    assert found.statistic == pytest.approx(1 / (0.25 + 0.25))


def test_groups_that_never_meet_have_no_log_rank():
    found = log_rank([5, 6], [1, 1], [1, 2], [0, 0])
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)


def test_lifelines_hazard_ratio_of_the_leukaemia_data():
    # lifelines 0.30.3, CoxPHFitter (Efron), which stops iterating at 1e-7; control over treated
    found = hazard_ratio(*GEHAN)
    assert found.finite
    assert math.log(found.ratio) == pytest.approx(1.5721248778883834, rel=1e-6)
    assert found.standard_error == pytest.approx(0.4123966970500348, rel=1e-6)
    assert found.lower == pytest.approx(2.146507718064927, rel=1e-6)
    assert found.upper == pytest.approx(10.809307315216904, rel=1e-6)
    assert found.wald_p_value == pytest.approx(0.00013775402177753523, rel=1e-5)
    assert found.p_value == pytest.approx(5.260920532887936e-05, rel=1e-5)


def test_lifelines_hazard_ratio_with_many_ties_and_censoring_of_both():
    # lifelines 0.30.3, CoxPHFitter(alpha=0.1), on numpy's default_rng(0): 30 of mean 10, 20 of 5
    rng = np.random.default_rng(0)
    a, b = np.ceil(rng.exponential(10, 30)), np.ceil(rng.exponential(5, 20))
    groups = np.minimum(a, 12), a <= 12, np.minimum(b, 12), b <= 12
    found = hazard_ratio(*groups, confidence=0.9)
    assert found.ratio == pytest.approx(2.155579512898526, rel=1e-6)
    assert found.lower == pytest.approx(1.2573940577514493, rel=1e-6)
    assert found.upper == pytest.approx(3.6953594680867576, rel=1e-6)
    assert found.p_value == pytest.approx(0.02064728170634065, rel=1e-5)
    tested = log_rank(*groups)
    assert tested.statistic == pytest.approx(5.9568765469010785, rel=1e-12)
    assert tested.p_value == pytest.approx(0.014659990136516822, rel=1e-10)


def plain_likelihood(beta, first, first_seen, second, second_seen):
    """Efron's, run by run."""
    times = np.concatenate([first, second])
    seen = np.concatenate([first_seen, second_seen]).astype(bool)
    weight = np.exp(beta * np.repeat([0.0, 1.0], [len(first), len(second)]))
    total = 0.0
    for time in np.unique(times[seen]):
        dying = seen & (times == time)
        total += np.log(weight[dying]).sum()
        for k in range(dying.sum()):
            share = k / dying.sum()
            total -= math.log(weight[times >= time].sum() - share * weight[dying].sum())
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_ratio_maximises_the_likelihood_written_run_by_run(seed):
    groups = (*drawn(15, 10, 12, seed), *drawn(12, 6, 12, seed + 50))
    found = hazard_ratio(*groups)
    best = optimize.minimize_scalar(
        lambda beta: -plain_likelihood(beta, *groups), bounds=(-5, 5), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    assert math.log(found.ratio) == pytest.approx(best.x, abs=1e-6)
    statistic = 2 * (-best.fun - plain_likelihood(0.0, *groups))
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-6)
    step = 1e-4
    at = [plain_likelihood(best.x + k * step, *groups) for k in (-1, 0, 1)]
    curvature = -(at[0] - 2 * at[1] + at[2]) / step**2
    assert found.standard_error == pytest.approx(curvature**-0.5, rel=1e-4)
    swapped = hazard_ratio(*groups[2:], *groups[:2])
    assert swapped.ratio == pytest.approx(1 / found.ratio, rel=1e-10)
    assert swapped.lower == pytest.approx(1 / found.upper, rel=1e-9)


def test_a_ratio_by_hand():
    # l = b - ln(1 + 2 r) at time 1, - ln(1 + r) at time 2, 0 at time 3: no slope at 2 r^2 = 1
    found = hazard_ratio([2], [1], [1, 3], [1, 1])
    assert found.ratio == pytest.approx(1 / math.sqrt(2), rel=1e-10)


def test_identical_groups_have_a_ratio_of_one():
    found = hazard_ratio(CONTROL, ALL_SEEN, CONTROL, ALL_SEEN)
    assert found.ratio == pytest.approx(1.0, abs=1e-10)
    assert found.p_value == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("sooner", [0, 1])
def test_separated_groups_have_an_infinite_ratio_and_a_likelihood_test(sooner):
    early, late = ([1, 2, 3, 3], [1, 1, 1, 1]), ([9, 9, 9], [0, 0, 0])
    groups = (*early, *late) if sooner == 0 else (*late, *early)
    found = hazard_ratio(*groups)
    assert not found.finite
    assert found.ratio == (0.0 if sooner == 0 else math.inf)
    assert (found.lower, found.upper, found.standard_error) == (0.0, math.inf, math.inf)
    assert math.isnan(found.wald_p_value)
    far = plain_likelihood(-30.0 if sooner == 0 else 30.0, *groups)
    statistic = 2 * (far - plain_likelihood(0.0, *groups))
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-6)


def test_seeds_by_hand():
    # (1.959964 + 0.841621)^2 / (0.25 ln(2)^2) = 65.3
    assert seeds_needed(2.0).events == 66
    assert (seeds_needed(2.0).first, seeds_needed(2.0).second) == (33, 33)
    assert seeds_needed(0.5) == seeds_needed(2.0)
    half = seeds_needed(2.0, censored=0.5)
    assert (half.events, half.first, half.second) == (66, 66, 66)
    uneven = seeds_needed(2.0, allocation=0.25)
    assert (uneven.events, uneven.first, uneven.second) == (88, 22, 66)
    assert seeds_needed(2.0, power=0.9).events == 88
    assert seeds_needed(2.0, alpha=0.01).events == 98


def test_that_many_seeds_have_the_power():
    needed = seeds_needed(2.5, power=0.8)
    rng, found = np.random.default_rng(3), []
    for _ in range(400):
        first, second = rng.exponential(2.5, needed.first), rng.exponential(1.0, needed.second)
        test = log_rank(first, np.ones(len(first)), second, np.ones(len(second)))
        found.append(test.p_value < 0.05)
    assert 0.72 < np.mean(found) < 0.88


REFUSED = [
    (lambda: kaplan_meier([], []), r"times and what was observed must be \(n,\) each with n >= 1"),
    (lambda: kaplan_meier([1, 2], [1]), r"got \(2,\) and \(1,\)"),
    (lambda: kaplan_meier([[1]], [[1]]), r"must be \(n,\) each"),
    (lambda: kaplan_meier([-1], [1]), r"times must be finite times >= 0, got \[-1.0\]"),
    (lambda: kaplan_meier([math.inf], [1]), "times must be finite"),
    (lambda: kaplan_meier([1], [2]), r"what was observed must be true or false, got \[2\]"),
    (lambda: kaplan_meier([1], [1], confidence=1.0), "confidence must be a number > 0 and < 1"),
    (lambda: log_rank([1], [1], [math.nan], [1]), "second must be finite times"),
    (lambda: hazard_ratio([-1], [1], [1], [1]), "first must be finite times"),
    (lambda: hazard_ratio([1], [1], [1], [1], confidence=0), "confidence must be a number > 0"),
    (lambda: hazard_ratio([5], [0], [5], [0]), "groups must both be at risk"),
    (lambda: hazard_ratio([5], [1], [4], [0]), "groups must both be at risk at one event"),
    (lambda: seeds_needed(0.0), "ratio must be a number > 0"),
    (lambda: seeds_needed(1.0), "ratio must differ from 1"),
    (lambda: seeds_needed(2.0, power=1.0), "power must be a number > 0 and < 1"),
    (lambda: seeds_needed(2.0, alpha=0.0), "alpha must be a number > 0 and < 1"),
    (lambda: seeds_needed(2.0, censored=1.0), "censored must be a number >= 0 and < 1"),
    (lambda: seeds_needed(2.0, allocation=1.0), "allocation must be a number > 0 and < 1"),
]


@pytest.mark.refusal
@pytest.mark.parametrize(("call", "reason"), REFUSED)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
