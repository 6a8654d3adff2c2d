"""Orders of pairs and units, with planted periodic units."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from grokscope.analysis.figures import draw_sorted_inputs, draw_sorted_weights
from grokscope.analysis.figures.heat_maps import dominant_frequencies, order_by_sum, sort_units

RNG = np.random.default_rng(0)


def pairs(p):
    return np.divmod(np.arange(p * p), p)


def planted(p, frequencies, phases, kind="sum"):
    """(p², units) with one frequency each."""
    a, b = (x[:, None] for x in pairs(p))
    turn = 2 * np.pi * np.asarray(frequencies) / p
    if kind == "sum":
        return np.cos(turn * (a + b) + phases)
    if kind == "product":
        return np.cos(turn * a + phases) * np.cos(turn * b - phases)
    if kind == "a":
        return np.cos(turn * a + phases)
    return np.maximum(0, np.cos(turn * a + phases) + np.cos(turn * b + phases))


@pytest.mark.parametrize("p", [2, 5, 6])
def test_pairs_come_by_their_sum_and_then_by_a(p):
    slow = sorted(((a + b) % p, a, a * p + b) for a in range(p) for b in range(p))
    assert order_by_sum(p).tolist() == [row for _, _, row in slow]


@pytest.mark.parametrize("kind", ["sum", "product", "a", "relu"])
@pytest.mark.parametrize("p", [7, 12, 13])
def test_planted_frequencies_are_found_under_noise_an_offset_and_any_scale(p, kind):
    ks = RNG.integers(1, (p + 1) // 2, 30)
    values = planted(p, ks, RNG.uniform(0, 6, 30), kind)
    values = 10.0 ** RNG.integers(-120, 120, 30) * (values + 0.1 * RNG.normal(size=values.shape))
    np.testing.assert_array_equal(dominant_frequencies(values + 0.0, p), ks)
    offset = planted(p, ks, 1.0, kind) + 50
    np.testing.assert_array_equal(dominant_frequencies(offset, p), ks)


@pytest.mark.parametrize("p", [6, 7])
def test_the_dominant_frequency_explains_most_by_least_squares(p):
    values = RNG.normal(size=(p * p, 20))
    a, b = pairs(p)

    def explained(k, unit):
        waves = [
            [np.ones(p * p), np.cos(2 * np.pi * k * x / p), np.sin(2 * np.pi * k * x / p)]
            for x in (a, b)
        ]
        design = np.stack([u * v for u in waves[0] for v in waves[1]], 1)
        fit = design @ np.linalg.lstsq(design, unit, rcond=None)[0]
        return ((fit - unit.mean()) ** 2).sum()

    best = [
        1 + int(np.argmax([explained(k, unit) for k in range(1, p // 2 + 1)])) for unit in values.T
    ]
    assert dominant_frequencies(values, p).tolist() == best


@pytest.mark.parametrize("level", [0.0, 1.0, -3e200])
def test_a_unit_that_says_nothing_of_the_pair_has_frequency_zero(level):
    assert dominant_frequencies(np.full((49, 2), level), 7).tolist() == [0, 0]


def test_units_are_sorted_by_frequency_and_then_by_phase():
    phases = np.array([2.0, -1.0, 1.0, 0.5, -2.0, 0.0])
    ks = np.array([3, 1, 3, 2, 1, 0])
    values = planted(11, ks, phases)
    order, frequencies = sort_units(values, 11)
    assert order.tolist() == [5, 4, 1, 3, 2, 0]
    assert frequencies.tolist() == [0, 1, 1, 2, 3, 3]


def test_the_picture_has_units_as_rows_and_sorted_pairs_as_columns():
    p, ks = 7, [3, 1, 2]
    values = planted(p, ks, 0.4)
    figure = Figure(layout="constrained")
    draw_sorted_inputs(values, p, figure)
    figure.draw_without_rendering()
    shown = figure.axes[0].images[0].get_array()
    sums = np.repeat(np.arange(p), p)
    for row, k in enumerate((1, 2, 3)):
        np.testing.assert_allclose(shown[row], np.cos(2 * np.pi * k * sums / p + 0.4), atol=1e-12)
    ticks = figure.axes[0].get_xticks()
    assert sums[np.round(ticks).astype(int)].tolist() == list(range(p))
    side = figure.axes[0].child_axes[0]
    assert [text.get_text() for text in side.get_yticklabels()] == ["1", "2", "3"]


def test_activations_start_at_zero_and_a_large_net_is_drawn():
    p = 61
    figure = Figure(layout="constrained")
    draw_sorted_inputs(planted(p, RNG.integers(1, 5, 20), 1.0, "relu"), p, figure)
    figure.draw_without_rendering()
    assert figure.axes[0].images[0].norm.vmin == 0
    assert len(figure.axes[0].get_xticks()) <= 14


def test_both_layers_have_their_units_in_one_order():
    p, ks = 7, np.array([3, 1, 2])
    waves = np.cos(2 * np.pi * ks[:, None] * np.arange(p) / p)
    figure = Figure(layout="constrained")
    draw_sorted_weights(np.concatenate([waves, 2 * waves], 1), 3 * waves.T, p, figure)
    figure.draw_without_rendering()
    of_a, of_b, written = (axis.images[0] for axis in figure.axes[:3])
    expected = waves[[1, 2, 0]]
    for image, times in ((of_a, 1), (of_b, 2), (written, 3)):
        np.testing.assert_array_equal(image.get_array(), times * expected)
    assert of_a.norm.vmax == of_b.norm.vmax == 2


@pytest.mark.refusal
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"values must be \(9, units\), .* got \(8, 2\)"):
        dominant_frequencies(np.ones((8, 2)), 3)
    with pytest.raises(ValueError, match=r"values must be \(9, units\), .* got \(9, 0\)"):
        draw_sorted_inputs(np.ones((9, 0)), 3, Figure())
    with pytest.raises(ValueError, match="values must be finite"):
        sort_units(np.full((9, 1), np.nan), 3)
    with pytest.raises(ValueError, match="modulus must be an integer >= 2, got 1"):
        order_by_sum(1)
    with pytest.raises(ValueError, match=r"first must be \(units, 6\) and last \(3, units\)"):
        draw_sorted_weights(np.ones((4, 6)), np.ones((3, 5)), 3, Figure())
    with pytest.raises(ValueError, match="weights must be finite"):
        draw_sorted_weights(np.full((4, 6), np.inf), np.ones((3, 4)), 3, Figure())
