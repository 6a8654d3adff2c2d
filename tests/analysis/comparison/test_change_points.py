"""Change points: planted steps, ramps, noise, and a plain double loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grokscope.analysis.comparison.change_points import POINTS, change_point

EPOCHS = np.arange(0, 40_001, 10)
PLACE = math.log1p(EPOCHS[-1]) / (POINTS - 1)


def by_loops(epochs, values):
    """Two constant pieces: each split tried, squared errors added up one by one."""
    rows = sorted((e, v) for e, v in zip(epochs, values, strict=True) if math.isfinite(v))
    x = [math.log(1 + e) for e, _ in rows]
    y = [v for _, v in rows]
    if min(y) > 0 and max(y) > 100 * min(y):
        y = [math.log(v) for v in y]
    places = [x[0] + (x[-1] - x[0]) * i / (POINTS - 1) for i in range(POINTS)]
    resampled = []
    for place in places:
        right = next((i for i in range(1, len(x)) if x[i] >= place - 1e-12), len(x) - 1)
        share = (place - x[right - 1]) / (x[right] - x[right - 1])
        resampled.append(y[right - 1] + share * (y[right] - y[right - 1]))

    def error(part):
        mean = sum(part) / len(part)
        return sum((value - mean) ** 2 for value in part)

    errors = [error(resampled[:k]) + error(resampled[k:]) for k in range(1, POINTS)]
    best = errors.index(min(errors)) + 1
    epoch = math.exp((places[best - 1] + places[best]) / 2) - 1
    return epoch, 1 - min(errors) / error(resampled)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wide", [False, True])
def test_it_agrees_with_loops_over_all_splits_on_uneven_permuted_rows(seed, wide):
    g = np.random.default_rng(seed)
    epochs = np.unique(np.concatenate([[0], (10 ** g.uniform(0, 4.6, 60)).astype(int)]))
    rise = 1 / (1 + np.exp(-2 * (np.log1p(epochs) - 5)))
    values = rise + 0.2 * g.normal(size=len(epochs))
    values = np.exp(4 * values) if wide else values
    values[3] = np.nan
    order = g.permutation(len(epochs))
    found = change_point(epochs[order], values[order])
    epoch, strength = by_loops(epochs, values)
    assert found.epoch == pytest.approx(epoch, rel=1e-9)
    assert found.strength == pytest.approx(strength, rel=1e-9)


@pytest.mark.parametrize("at", [50, 700, 12_000])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 0), (-5, 3), (1e-6, 1), (1e300, 1e-300)])
def test_a_planted_step_is_found_and_explains_all(at, low, high):
    found = change_point(EPOCHS, np.where(at <= EPOCHS, float(high), float(low)))
    assert abs(math.log1p(found.epoch) - math.log1p(at)) < PLACE + 10 / at
    assert found.strength > 0.99  # not 1: between the two rows around it there is a ramp


@pytest.mark.parametrize("seed", range(4))
def test_noise_moves_a_step_little_and_lowers_its_strength_as_its_variance_says(seed):
    x = np.linspace(0, math.log1p(40_000), POINTS)  # a row at each place: noise of its full size
    g = np.random.default_rng(seed)
    values = np.where(x >= math.log1p(700), 1.0, 0.0) + 0.3 * g.normal(size=POINTS)
    found = change_point(np.expm1(x), values)
    assert found.epoch == pytest.approx(700, rel=0.1)
    share = math.log1p(700) / x[-1]
    step = share * (1 - share)
    assert found.strength == pytest.approx(step / (step + 0.3**2), abs=0.06)


def test_a_straight_ramp_changes_at_its_middle_and_a_step_explains_three_quarters():
    for sign in (1, -1):
        found = change_point(EPOCHS, sign * np.log1p(EPOCHS))
        # rows at 0 and 10 bend nothing: the ramp is straight in the same axis
        assert math.log1p(found.epoch) == pytest.approx(math.log1p(40_000) / 2, rel=1e-3)
        assert found.strength == pytest.approx(0.75, abs=1e-5)


def test_steps_in_sparse_rows_lie_in_the_logarithmic_middle_between_two_of_them():
    epochs = np.array([0, 1, 3, 9, 29, 99, 299, 999, 2999])
    found = change_point(epochs, np.where(epochs >= 99, 1.0, 0.0))
    assert found.epoch == pytest.approx(math.sqrt(30 * 100) - 1, rel=0.02)


def test_scaling_and_shifting_change_nothing():
    values = np.random.default_rng(2).normal(size=len(EPOCHS)).cumsum()
    base = change_point(EPOCHS, values)
    for other in (1e-30 * values, -7 * values + 3, values * 1e200):
        found = change_point(EPOCHS, other)
        assert found.epoch == pytest.approx(base.epoch, rel=1e-12)
        assert found.strength == pytest.approx(base.strength, rel=1e-9)


def test_wide_positive_ranges_are_taken_by_logarithms_unless_told_not_to():
    loss = np.exp(-10 / (1 + np.exp(-3 * (np.log1p(EPOCHS) - math.log(1000)))))
    assert change_point(EPOCHS, loss).epoch == pytest.approx(1000, rel=0.03)
    by_value = change_point(EPOCHS, loss, linear=True)
    assert by_value.epoch < 600
    assert by_value.epoch == pytest.approx(change_point(EPOCHS, loss - 1).epoch, rel=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(7.0),
        np.append(np.arange(7.0), np.nan),
        np.full(50, 0.1),
        np.zeros(50),
        0.1 * (1 + 1e-15 * np.arange(50) % 2),
        [],
    ],
)
def test_too_few_rows_and_constants_have_no_change_point(values):
    found = change_point(np.arange(len(values)), values)
    assert math.isnan(found.epoch)
    assert math.isnan(found.strength)


def test_eight_rows_suffice():
    assert change_point(np.arange(8), [0, 0, 0, 0, 1, 1, 1, 1]).strength > 0.7


@pytest.mark.refusal
def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="epochs must be >= 0"):
        change_point(np.arange(-1, 9), np.arange(10.0))
