"""Thinned curves look like all of them: no spike is lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokscope.analysis.panels.thinning import thinned_epochs, thinned_rows


@st.composite
def curves(draw):
    """Ascending epochs, values with gaps and ties, and a number of points."""
    rows = draw(st.integers(0, 3000))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = generator.integers(1, draw(st.sampled_from([2, 50, 10_000])), rows)
    epochs = np.cumsum(steps) - (steps[0] if rows else 0)
    values = np.round(generator.normal(size=rows), draw(st.integers(0, 6)))
    missing = generator.random(rows) < draw(st.sampled_from([0, 0.3, 1]))
    values[missing] = generator.choice([np.nan, np.inf, -np.inf], missing.sum())
    return epochs, values, draw(st.integers(16, 400))


@settings(deadline=None, max_examples=150)
@given(curves())
def test_kept_rows_ascend_are_finite_and_hold_the_extremes(curve):
    epochs, values, points = curve
    rows = thinned_rows(epochs, values, points)
    known = np.flatnonzero(np.isfinite(values))
    assert len(rows) <= max(points, 16)
    assert (np.diff(rows) > 0).all()
    assert np.isin(rows, known).all()
    if len(known):
        assert (values[rows].min(), values[rows].max()) == (
            values[known].min(),
            values[known].max(),
        )
        assert {known[0], known[-1]} <= set(rows)
    if len(known) <= points:
        assert rows.tolist() == known.tolist()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 39_999),
    st.floats(1e-6, 1e6),
    st.sampled_from([1, -1]),
    st.integers(16, 2000),
)
def test_a_spike_of_one_epoch_survives_wherever_it_is(place, size, sign, points):
    values = np.sin(np.arange(40_000) / 500) * 1e-7
    values[place] = sign * size
    rows = thinned_rows(np.arange(40_000), values, points)
    assert place in rows
    assert len(rows) <= points


@pytest.mark.parametrize("scale", [lambda x: x, np.log1p], ids=["linear", "logarithmic"])
def test_every_interval_of_either_axis_keeps_its_range(scale):
    epochs, points = np.arange(20_000), 400
    values = np.random.default_rng(0).normal(size=len(epochs))
    rows = thinned_rows(epochs, values, points)
    x = scale(epochs.astype(float))
    edges = np.linspace(x[0], x[-1], points // 8 + 1)
    for low, high in pairwise(edges):
        inside = np.flatnonzero((x >= low) & (x < high * (1 + 1e-12)))
        if len(inside) == 0:
            continue
        kept = np.intersect1d(rows, inside)
        assert values[kept].min() == values[inside].min()
        assert values[kept].max() == values[inside].max()


def test_a_curve_of_few_points_is_kept_as_it_is():
    assert thinned_rows(np.arange(16), np.arange(16.0), 16).tolist() == list(range(16))


def test_many_rows_at_early_epochs_do_not_take_all_the_points():
    epochs = np.concatenate([np.arange(5000), [10**6, 2 * 10**6]])
    rows = thinned_rows(epochs, np.random.default_rng(0).normal(size=5002), 64)
    assert {0, 5000, 5001} <= set(rows)
    assert len(rows) <= 64


@settings(deadline=None)
@given(st.integers(1, 5000), st.sampled_from([8, 16, 25, 120]), st.integers(1, 1000))
def test_epochs_of_frames_ascend_and_include_both_ends(rows, count, step):
    epochs = np.arange(rows) * step
    kept = thinned_epochs(epochs, count)
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, rows - 1)
    assert len(kept) <= count
    if rows <= count:
        assert len(kept) == rows


def test_half_of_the_frames_are_even_in_epochs_and_half_on_a_log_axis():
    kept = thinned_epochs(np.arange(10_001), 20)
    assert set(np.ceil(np.linspace(0, 10_000, 10)).astype(int)) <= set(kept)
    assert (kept < 100).sum() >= 5


def test_no_epochs_give_no_frames():
    assert thinned_epochs(np.array([], dtype=int), 8).tolist() == []


@pytest.mark.refusal
def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="points must be"):
        thinned_rows(np.arange(5), np.arange(5.0), 15)
