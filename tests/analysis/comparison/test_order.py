"""What moves first: planted orders, exact tests, and false discoveries."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from grokscope import Run
from grokscope.analysis.comparison.change_points import ChangePoint
from grokscope.analysis.comparison.order import change_points, movers, rank_movers, spearman

TIMES = [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0, 25600.0]
NONE = ChangePoint(math.nan, math.nan)


def changes(**epochs):
    """Of each run, from the epochs of each series."""
    return [
        {name: ChangePoint(own[i], 0.9) for name, own in epochs.items() if own[i] is not None}
        for i in range(len(next(iter(epochs.values()))))
    ]


def test_series_come_in_the_order_in_which_they_change():
    found = rank_movers(
        TIMES,
        changes(
            late=[2 * t for t in TIMES],
            early=[t / 10 for t in TIMES],
            never=[math.nan] * len(TIMES),
            with_it=[t * (0.9 if i % 2 else 1.1) for i, t in enumerate(TIMES)],
        ),
    )
    assert [mover.name for mover in found] == ["early", "with_it", "late"]
    early, with_it, late = found
    assert (early.median_ratio, early.precedes, early.n) == (pytest.approx(0.1), 1, 9)
    assert (late.median_ratio, late.precedes) == (2, 0)
    assert (with_it.precedes, with_it.strength) == (pytest.approx(4 / 9), 0.9)
    assert (with_it.low, with_it.high) == (pytest.approx(0.9), pytest.approx(1.1))
    assert early.correlation == pytest.approx(1)


def test_ratios_are_of_the_runs_that_have_a_change_point():
    several = changes(some=[10.0, None, math.nan, 400.0, 80.0])
    (found,) = rank_movers(TIMES[:5], several)
    assert found.n == 3
    ratios = [10 / 100, 400 / 800, 80 / 1600]
    assert found.median_ratio == np.median(ratios)
    assert (found.low, found.high) == tuple(np.quantile(ratios, [0.25, 0.75]))
    assert math.isnan(found.correlation)
    assert math.isnan(found.p_value)
    assert math.isnan(found.q_value)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_p_values_of_few_runs_count_all_orders(n, ties):
    g = np.random.default_rng(n)
    x, y = g.integers(0, 3 if ties else 10**6, (2, n)).astype(float)
    x[0] = 10**7
    y[1] = 10**7
    orders = [abs(stats.spearmanr(x, order).statistic) for order in permutations(y)]
    correlation, p_value = spearman(x, y)
    assert correlation == pytest.approx(stats.spearmanr(x, y).statistic)
    share = sum(each >= abs(correlation) - 1e-9 for each in orders) / len(orders)
    assert p_value == pytest.approx(share)


def test_p_values_of_many_runs_are_those_of_scipy_but_never_zero():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(2, 30))
    expected = stats.spearmanr(x, y)
    assert spearman(x, y) == pytest.approx((expected.statistic, expected.pvalue))
    perfect = np.arange(8.0)
    assert spearman(perfect, -perfect) == (pytest.approx(-1), pytest.approx(2 / math.factorial(8)))


def test_too_few_or_constant_times_have_no_correlation():
    for x, y in (([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [5] * 4)):
        assert all(map(math.isnan, spearman(np.array(x, float), np.array(y, float))))


def test_q_values_are_those_of_benjamini_and_hochberg():
    g = np.random.default_rng(2)
    noise = {f"noise_{i}": list(10 ** g.uniform(1, 4, len(TIMES))) for i in range(20)}
    found = rank_movers(TIMES, changes(true=TIMES, **noise))
    ordered = sorted(found, key=lambda mover: mover.p_value)
    smallest = math.inf
    for rank in range(len(ordered), 0, -1):
        mover = ordered[rank - 1]
        smallest = min(smallest, mover.p_value * len(ordered) / rank)
        assert mover.q_value == pytest.approx(min(1, smallest))
    assert ordered[0].name == "true"
    assert [mover.name for mover in found if mover.q_value < 0.01] == ["true"]


def planted(write, folder, generalised, early, late, seed=0):
    """A run whose ``early`` and ``late`` series step at these epochs."""
    epochs = np.unique(np.round(np.geomspace(1, 4001, 150))).astype(int) - 1
    g = np.random.default_rng(seed)

    def step(at):
        return np.where(epochs >= at, 1.0, 0.0) + 0.05 * g.normal(size=len(epochs))

    accuracy = np.where(epochs >= generalised, 1.0, 0.004)
    curves = {"train_acc": accuracy, "test_acc": accuracy, "early": step(early)}
    write(folder, {}, epochs, curves | {"late": step(late), "flat": np.ones(len(epochs))})


def test_planted_steps_of_real_files_are_put_in_order(write, tmp_path):
    for number, at in enumerate((100, 200, 300, 500, 800)):
        planted(write, tmp_path / str(number), at, at // 4, 3 * at, number)
    planted(write, tmp_path / "never", 10**9, 10, 2000)
    runs = [Run.open(path) for path in sorted(tmp_path.iterdir())]
    found = {mover.name: mover for mover in movers(runs)}
    assert list(found) == ["early", "test_acc", "train_acc", "late"]
    assert {mover.n for mover in found.values()} == {5}
    assert found["early"].median_ratio == pytest.approx(1 / 4, rel=0.1)
    assert found["late"].median_ratio == pytest.approx(3, rel=0.1)
    assert found["test_acc"].median_ratio == pytest.approx(1, rel=0.05)
    assert found["early"].correlation == pytest.approx(1)
    assert found["early"].p_value == pytest.approx(2 / 120)


def test_accuracies_are_taken_as_they_are_also_over_more_than_a_factor_of_a_hundred(
    write, tmp_path
):
    epochs = np.arange(0, 5001, 5)
    rise = 1 / (1 + np.exp(-8 * (np.log1p(epochs) - math.log(1000))))
    folder = write(tmp_path / "run", {}, epochs, {"test_acc": rise, "mine": rise})
    found = change_points(Run.open(folder))
    assert found["test_acc"].epoch == pytest.approx(1000, rel=0.03)
    assert found["mine"].epoch < 500


def test_no_run_that_generalised_moves_nothing(write, tmp_path):
    planted(write, tmp_path / "run", 10**9, 10, 2000)
    assert movers([Run.open(tmp_path / "run")]) == ()
    assert movers([]) == ()


@pytest.mark.refusal
def test_times_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="changes must be one for each time, got 1 and 2"):
        rank_movers([1.0, 2.0], [{}])
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="generalised must be finite epochs > 0"):
            rank_movers([wrong], [{"a": NONE}])
