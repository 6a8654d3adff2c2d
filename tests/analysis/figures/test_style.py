"""Text from outside, rows of a log axis, and the two moments."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from grokscope.analysis import GrokkingTimes
from grokscope.analysis.figures.style import (
    LONGEST,
    draw_moments,
    epoch_positions,
    plain,
    spread_rows,
    wrapped,
)

RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}"
HOSTILE = [
    "$\\frac{",
    "$x$ and $y$",
    "\\$",
    "_hidden",
    "two\nlines",
    "null\0byte",
    f"mark{RIGHT_TO_LEFT}ed",
    "x" * 10_000,
    "$" * 10_000,
    "<script>&amp;",
    "\N{CJK UNIFIED IDEOGRAPH-5C42}\N{PILE OF POO}",
    "",
]


def drawn_text(text):
    """What matplotlib lays out, after it has looked for mathematics."""
    figure = Figure()
    label = figure.text(0, 0, text)
    figure.draw_without_rendering()
    shown, mathematics = label._preprocess_math(label.get_text())
    assert mathematics is False
    return shown


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_drawn_letter_by_letter_and_cut(text):
    shown = drawn_text(plain(text)).removeprefix(" ")
    assert len(shown) <= LONGEST
    assert "\n" not in shown
    kept = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    assert len(shown) == len(kept)
    assert all(a in (b, "\N{REPLACEMENT CHARACTER}") for a, b in zip(shown, kept, strict=True))
    assert drawn_text(wrapped(text)).count("\n") <= 3


def test_ordinary_names_stay_as_they_are():
    for text in ("attention.query", "λ1, ‖gradient‖²", "a_b 50 % \\alpha", "שלום"):
        assert plain(text) == text


def test_marks_and_letters_without_a_glyph_are_replaced():
    assert (
        plain(f"a{RIGHT_TO_LEFT}b\x1b") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    )
    assert plain("\N{CJK UNIFIED IDEOGRAPH-5C42}") == "\N{REPLACEMENT CHARACTER}"


def test_a_label_that_begins_with_an_underscore_reaches_the_legend():
    axis = Figure().subplots()
    axis.plot([1], [1], label=plain("_x"))
    assert axis.get_legend_handles_labels()[1] == [" _x"]


def test_long_units_are_broken_into_lines_without_losing_words():
    text = "share of the squared gradient norm"
    assert wrapped(text).replace("\n", " ") == text
    assert max(map(len, wrapped(text).split("\n"))) <= 26


@pytest.mark.parametrize("most", [2, 7, 50])
def test_rows_are_the_nearest_to_points_even_on_the_log_axis(most):
    epochs = np.arange(3000)
    logs = np.log(epoch_positions(epochs))
    wanted = np.linspace(logs[0], logs[-1], most)
    nearest = sorted({int(np.argmin(np.abs(logs - point))) for point in wanted})
    assert spread_rows(epochs, most).tolist() == nearest
    assert (nearest[0], nearest[-1]) == (0, 2999)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_rows_are_all_taken(count):
    assert spread_rows(np.arange(count), 5).tolist() == list(range(count))


def lines_at(memorised, generalised, **where):
    axis = Figure().subplots()
    draw_moments(axis, GrokkingTimes(memorised, generalised, 0.99, 0.99, 0), **where)
    return axis.lines


def test_moments_that_came_are_drawn_and_epoch_zero_at_a_half():
    assert [line.get_xdata()[0] for line in lines_at(0, 40)] == [0.5, 40]
    assert [line.get_xdata()[0] for line in lines_at(3, None)] == [3]
    assert not lines_at(None, None)
    axis = Figure().subplots()
    draw_moments(axis, None)
    assert not axis.lines


def test_moments_at_one_epoch_both_show():
    first, second = (line._unscaled_dash_pattern for line in lines_at(7, 7))
    assert first[1] == second[1]
    assert abs(second[0] - first[0]) == first[1][0]


def test_moments_are_named_for_the_legend():
    labels = [line.get_label() for line in lines_at(5, 1234, legend=True)]
    assert labels == ["memorised 5", "generalised 1,234"]
