"""Bands: closed forms, plain loops, and alignment."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from grokscope import Run
from grokscope.analysis.comparison.bands import band, curve_band

EPOCHS = np.array([0, 1, 2, 5, 10, 30, 100, 200, 400])


def test_equal_epochs_need_no_interpolation():
    values = np.random.default_rng(0).normal(size=(5, len(EPOCHS)))
    found = curve_band([(EPOCHS, own) for own in values])
    np.testing.assert_array_equal(found.epochs, EPOCHS)
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.high - found.mean, values.std(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(found.mean - found.low, values.std(0, ddof=1), rtol=1e-12)
    assert found.count.tolist() == [5] * len(EPOCHS)
    range_ = curve_band([(EPOCHS, own) for own in values], spread="range")
    np.testing.assert_array_equal(range_.low, values.min(0))
    np.testing.assert_array_equal(range_.high, values.max(0))


def test_logarithmic_bands_are_those_of_logarithms():
    values = np.random.default_rng(1).lognormal(sigma=3, size=(4, len(EPOCHS)))
    found = curve_band([(EPOCHS, own) for own in values], scale="log")
    plain = curve_band([(EPOCHS, np.log(own)) for own in values])
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(getattr(found, name), np.exp(getattr(plain, name)), rtol=1e-12)
    np.testing.assert_allclose(found.mean, values.prod(0) ** (1 / 4), rtol=1e-12)


def test_rows_that_are_not_positive_have_no_logarithm():
    found = curve_band([([0, 1, 2, 3], [1.0, 0.0, -1.0, 1.0])], scale="log")
    assert found.epochs.tolist() == [0, 3]


def value_by_loop(epochs, values, at):
    rows = [(e, v) for e, v in zip(epochs, values, strict=True) if not math.isnan(v)]
    for (e0, v0), (e1, v1) in pairwise(rows):
        if e0 <= at <= e1:
            share = (math.log(at + 1) - math.log(e0 + 1)) / (math.log(e1 + 1) - math.log(e0 + 1))
            return v0 + share * (v1 - v0)
    return math.nan


@pytest.mark.parametrize("spread", ["deviation", "range"])
def test_uneven_rows_agree_with_loops(spread):
    g = np.random.default_rng(3)
    curves = []
    for last in (50, 400, 1000):
        epochs = np.sort(g.choice(last, 12, replace=False))
        values = g.normal(size=12)
        values[4] = np.nan
        curves.append((epochs, values))
    found = curve_band(curves, spread=spread)
    known = {int(e) for es, vs in curves for e, v in zip(es, vs, strict=True) if v == v}
    assert found.epochs.tolist() == sorted(known)
    for place, epoch in enumerate(found.epochs):
        there = [value_by_loop(*curve, epoch) for curve in curves]
        there = [value for value in there if not math.isnan(value)]
        mean = sum(there) / len(there)
        assert found.count[place] == len(there)
        assert found.mean[place] == pytest.approx(mean, abs=1e-12)
        if spread == "range":
            ends = min(there), max(there)
        elif len(there) == 1:
            ends = math.nan, math.nan
        else:
            sd = math.sqrt(sum((v - mean) ** 2 for v in there) / (len(there) - 1))
            ends = mean - sd, mean + sd
        found_ends = found.low[place], found.high[place]
        assert found_ends == pytest.approx(ends, abs=1e-9, nan_ok=True)


def test_many_epochs_become_few_of_their_own_with_both_ends():
    epochs = np.arange(40_001)
    curves = [(epochs, np.sqrt(epochs)), (epochs[::3], np.sqrt(epochs[::3]))]
    found = curve_band(curves, points=100)
    assert 60 < len(found.epochs) <= 100
    assert (found.epochs[0], found.epochs[-1]) == (0, 40_000)
    assert np.isin(found.epochs, epochs).all()
    np.testing.assert_allclose(found.mean, np.sqrt(found.epochs), atol=0.4)


def test_runs_without_a_row_are_left_out_and_counted():
    nothing = np.full(len(EPOCHS), np.nan)
    found = curve_band([(EPOCHS, nothing), (EPOCHS, EPOCHS)])
    assert (found.left_out, found.count.max()) == (1, 1)
    assert np.isnan(found.low).all()
    empty = curve_band([(EPOCHS, nothing)])
    assert (len(empty.epochs), len(empty.mean), empty.left_out) == (0, 0, 1)


def test_a_run_that_diverged_does_not_fail():
    found = curve_band([(EPOCHS, EPOCHS * 1e300), (EPOCHS, -EPOCHS * 1e300)])
    assert (found.mean[1], found.high[-1]) == (0, np.inf)
    logs = curve_band([(EPOCHS, np.full(9, 1e300)), (EPOCHS, np.full(9, 1e-300))], scale="log")
    assert (logs.low[0], logs.high[0]) == (0, np.inf)
    assert logs.mean[0] == pytest.approx(1)


def test_curves_that_differ_by_their_pace_alone_coincide_when_aligned():
    def curve(time):
        epochs = np.unique(np.round(np.geomspace(1, 40 * time, 500)))
        return epochs, np.tanh(epochs / time)

    times = [100, 330, 1000]
    aligned = curve_band([curve(t) for t in times], times)
    np.testing.assert_allclose(aligned.mean, np.tanh(aligned.epochs), atol=5e-3)
    full = aligned.count == 3
    assert np.nanmax((aligned.high - aligned.low)[full]) < 0.01
    plain = curve_band([curve(t) for t in times])
    assert np.nanmax((plain.high - plain.low)[plain.count == 3]) > 0.5
    assert len(aligned.epochs) <= 400


def test_aligned_curves_are_interpolated_in_their_own_epochs():
    g = np.random.default_rng(4)
    times, rows = (3, 20, 500), (0, 2, 9, 70, 900)
    curves = [(rows, g.normal(size=5)) for _ in times]
    found = curve_band(curves, times)
    assert len(found.epochs) == 1 + 4 * 3
    for place, relative in enumerate(found.epochs):
        pairs = zip(curves, times, strict=True)
        there = [value_by_loop(*curve, relative * time) for curve, time in pairs]
        there = [value for value in there if not math.isnan(value)]
        assert found.mean[place] == pytest.approx(sum(there) / len(there), abs=1e-9)


def test_runs_are_aligned_at_the_epoch_at_which_they_generalised(write, tmp_path):
    epochs = np.arange(0, 1001, 10)
    for number, at in enumerate((100, 400, 10**9, 0)):
        acc = np.where(epochs >= at, 1.0, 0.2)
        curves = {"train_acc": acc, "test_acc": acc, "mine": np.where(epochs >= at, 5.0, 2.0)}
        write(tmp_path / str(number), {}, epochs, curves)
    write(tmp_path / "bare", {}, [0, 1], {})
    runs = [Run.open(path) for path in sorted(tmp_path.iterdir())]
    found = band(runs, "mine", aligned=True)
    assert found.left_out == 3  # one never did, one did at once, one has no accuracy
    assert (found.epochs[0], found.epochs[-1]) == (0, 10)
    both = found.count == 2
    assert found.epochs[both].max() == pytest.approx(2.5)
    after = found.mean[both & (found.epochs >= 1)]
    before = found.mean[both & (found.epochs <= 0.9)]
    assert set(after.tolist()) == {5.0}
    assert set(before.tolist()) == {2.0}
    assert band(runs, "mine").left_out == 1
    assert band(runs, "nothing").left_out == 5


@pytest.mark.refusal
def test_what_cannot_be_is_refused():
    curves = [(EPOCHS, EPOCHS)]
    with pytest.raises(ValueError, match="spread must be one of deviation, range"):
        curve_band(curves, spread="sd")
    with pytest.raises(ValueError, match="scale must be one of linear, log"):
        curve_band(curves, scale="cubic")
    with pytest.raises(ValueError, match="points must be an integer >= 2"):
        curve_band(curves, points=1)
    with pytest.raises(ValueError, match=r"epochs and values must be \(rows,\) each"):
        curve_band([(EPOCHS, EPOCHS[1:])])
