"""Arrays in a page: each once, exact to float32, within the budget."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grokscope.analysis.panels import Lines, Matrices, Panel, Series, Spectrum
from grokscope.analysis.report.encoding import LARGEST, Arrays, encoded, fitted

ROWS = 40_000
EPOCHS = np.arange(ROWS)


def unpack(packed, index):
    kind, text = packed[index]
    return np.frombuffer(base64.b64decode(text), {"i": "<i4", "f": "<f4"}[kind])


def curve(name, seed=0, spike=None, rows=ROWS):
    values = np.random.default_rng(seed).normal(size=rows)
    if spike is not None:
        values[spike] = 1e6
    return Series(name, np.arange(rows), values)


def panel(key, *choices):
    return Panel(key, "section", key, "caption", choices)


def lines(key, count, spike=None, seed=0):
    series = tuple(curve(str(i), seed + i, spike) for i in range(count))
    return panel(key, Lines("all", "unit", series))


def numbers(panels):
    """Of what the page would hold, by its arrays."""
    arrays = Arrays()
    encoded(panels, arrays, 10**9)
    return sum(len(unpack(arrays.packed, i)) for i in range(len(arrays.packed)))


@settings(deadline=None)
@given(hnp.arrays(float, hnp.array_shapes(max_dims=3, max_side=9), elements=st.floats(width=32)))
def test_numbers_come_back_as_float32_with_infinities_cut(values):
    arrays = Arrays()
    found = unpack(arrays.packed, arrays.add(values))
    expected = np.clip(values.ravel(), -LARGEST, LARGEST).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    assert not np.isinf(found).any()


def test_what_float32_cannot_hold_is_cut_to_its_largest():
    arrays = Arrays()
    found = unpack(arrays.packed, arrays.add(np.array([np.inf, -np.inf, 1e300, np.nan, 1e-300])))
    np.testing.assert_array_equal(found, np.float32([LARGEST, -LARGEST, LARGEST, np.nan, 0]))


@given(st.lists(st.integers(0, 2**31 - 1), max_size=20))
def test_epochs_come_back_exactly(epochs):
    arrays = Arrays()
    found = unpack(arrays.packed, arrays.add(np.array(epochs, dtype=np.int64), "i"))
    assert found.tolist() == epochs


def test_equal_arrays_are_packed_once():
    arrays = Arrays()
    first = arrays.add(EPOCHS, "i")
    assert arrays.add(EPOCHS.copy(), "i") == first
    assert arrays.add(EPOCHS + 1, "i") != first
    assert arrays.add(np.zeros(3), "f") != arrays.add(np.zeros(3), "i")
    assert len(arrays.packed) == 4


def test_curves_of_one_group_share_their_epochs():
    arrays = Arrays()
    (found,) = encoded([lines("a", 3)], arrays, 10**9)
    series = found["choices"][0]["series"]
    assert len({each["epochs"] for each in series}) == 1
    assert len({each["values"] for each in series}) == 3
    for i, each in enumerate(series):
        np.testing.assert_array_equal(
            unpack(arrays.packed, each["values"]), curve("", i).values.astype(np.float32)
        )


def test_every_kind_of_choice_says_what_it_is():
    values = np.arange(24.0)
    spectrum = Spectrum("s", "unit", "rank", np.arange(4), values.reshape(4, 6))
    matrices = Matrices(
        "m", "unit", ("a", "b"), tuple("xyz"), np.arange(4), values.reshape(4, 2, 3)
    )
    band = Lines(
        "b", "unit", (Series("b", EPOCHS[:3], np.ones(3), low=np.zeros(3), high=np.ones(3)),)
    )
    arrays = Arrays()
    found = encoded([panel("s", spectrum), panel("m", matrices), panel("b", band)], arrays)
    assert [each["type"] for each in found] == ["spectrum", "matrices", "lines"]
    first, second, third = (each["choices"][0] for each in found)
    assert (first["width"], first["axis"], first["log"]) == (6, "rank", True)
    assert (second["rows"], second["columns"]) == (["a", "b"], ["x", "y", "z"])
    for each in (first, second):
        np.testing.assert_array_equal(unpack(arrays.packed, each["values"]), values)
    assert unpack(arrays.packed, third["series"][0]["low"]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("spike", [0, 17, 20_000, 39_998, 39_999])
def test_a_spike_of_one_epoch_survives_the_smallest_budget(spike):
    (kept,) = fitted([lines("a", 40, spike)], 3_000)
    for series in kept.choices[0].series:
        assert len(series.epochs) < 100
        assert series.values.max() == 1e6
        assert series.epochs[np.argmax(series.values)] == spike


@pytest.mark.parametrize("budget", [10_000, 50_000, 360_000])
def test_the_budget_is_kept_by_many_panels(budget):
    frames = np.random.default_rng(0).random((10, 120, 20))
    many = [lines(f"l{i}", 4, seed=4 * i) for i in range(10)]
    many += [panel("s", Spectrum("s", "u", "rank", np.arange(120), each)) for each in frames]
    assert numbers(many) > budget
    assert numbers(fitted(many, budget)) <= budget


def test_what_fits_is_left_alone():
    few = [lines("a", 2)]
    assert fitted(few, 10**9) == few


def test_losses_are_not_thinned():
    kept, thinner = fitted([lines("loss", 1), lines("other", 1)], 1_000)
    assert len(kept.choices[0].series[0].epochs) == ROWS
    assert len(thinner.choices[0].series[0].epochs) < 100


def test_bands_are_thinned_with_their_curve():
    values = np.random.default_rng(0).normal(size=ROWS)
    series = Series("mean", EPOCHS, values, low=values - 1, high=values + 1)
    (kept,) = fitted([panel("a", Lines("a", "u", (series,)))], 1_000)
    (found,) = kept.choices[0].series
    np.testing.assert_array_equal(found.low, found.values - 1)
    np.testing.assert_array_equal(found.high, found.values + 1)
    np.testing.assert_array_equal(found.values, values[found.epochs])


def test_frames_that_are_left_out_keep_both_ends():
    spectrum = Spectrum("s", "u", "rank", EPOCHS, np.random.default_rng(0).random((ROWS, 2)))
    (kept,) = fitted([panel("s", spectrum)], 100)
    found = kept.choices[0]
    assert (found.epochs[0], found.epochs[-1]) == (0, ROWS - 1)
    np.testing.assert_array_equal(found.values, spectrum.values[found.epochs])
