"""Rows on a logarithmic axis: cleaned, thinned, interpolated."""

from __future__ import annotations

import numpy as np
import pytest

from grokscope.analysis.comparison.rows import even_rows, interpolated, known_rows


def test_rows_are_sorted_and_those_without_a_value_dropped():
    epochs, values = known_rows([5, 0, 2, 2, 9, 7], [1.0, 2.0, 3.0, 4.0, np.nan, np.inf])
    assert epochs.tolist() == [0, 2, 5]
    assert values.tolist() == [2.0, 4.0, 1.0]  # the last of epoch 2
    assert all(len(each) == 0 for each in known_rows([], []))
    assert known_rows(np.arange(3), np.float32([1, 2, 3]))[1].dtype == np.float64


@pytest.mark.parametrize("points", [2, 10, 400])
def test_thinning_keeps_both_ends_and_takes_the_nearest_of_even_places(points):
    times = np.unique(np.random.default_rng(0).integers(0, 40_000, 5000)).astype(float)
    rows = even_rows(times, points)
    x = np.log1p(times)
    places = np.linspace(x[0], x[-1], points)
    nearest = {int(np.argmin(np.abs(x - place))) for place in places}
    assert set(rows.tolist()) == nearest
    assert {0, len(times) - 1} <= set(rows.tolist())
    assert len(rows) <= points


def test_few_rows_are_all_kept():
    assert even_rows(np.array([0.0, 3.0, 9.0]), 3).tolist() == [0, 1, 2]


def test_between_rows_values_are_linear_in_the_logarithm_and_beyond_them_nothing():
    times, values = np.array([1.0, 9.0, 99.0]), np.array([1.0, 3.0, 3.0])
    middle = np.sqrt(2 * 10) - 1
    found = interpolated(np.array([0.5, 1.0, middle, 9.0, 50.0, 99.0, 100.0]), times, values)
    np.testing.assert_allclose(found, [np.nan, 1, 2, 3, 3, 3, np.nan], rtol=1e-14)


def test_other_units_of_time_give_the_same_values_if_the_offset_is_one_epoch_in_them():
    times, values = np.array([0.0, 4.0, 70.0]), np.array([1.0, 3.0, -2.0])
    at = np.linspace(0, 70, 23)
    np.testing.assert_allclose(
        interpolated(at / 7, times / 7, values, 1 / 7), interpolated(at, times, values), rtol=1e-12
    )


@pytest.mark.refusal
def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"epochs and values must be \(rows,\) each"):
        known_rows([1, 2], [1.0])
    with pytest.raises(ValueError, match=r"epochs and values must be \(rows,\) each"):
        known_rows([[1, 2]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="epochs must be >= 0, got -3"):
        known_rows([-3, 2], [1.0, 2.0])
