"""Panels as matplotlib figures."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure

from grokscope.analysis import GrokkingTimes
from grokscope.analysis.figures import (
    NEUTRAL,
    TEST,
    TRAIN,
    draw_lines,
    draw_matrix,
    draw_panel,
    draw_spectrum,
)
from grokscope.analysis.figures.spectrum import log_edges, positive_limits
from grokscope.analysis.panels.model import Lines, Matrices, Panel, Series, Spectrum

TIMES = GrokkingTimes(20, 200, 0.99, 0.99, 0)
EPOCHS = np.array([0.0, 1, 3, 10, 30, 100, 300])
HOSTILE = ["$\\frac{", "_x", "a\nb\0", "\N{RIGHT-TO-LEFT OVERRIDE}abc", "x$" * 5000, ""]


def lines(*series, log=False, unit="loss (nats)"):
    return Lines("a", unit, series, log)


def decay(name="train", role="train", scale=1.0, **how):
    return Series(name, EPOCHS, scale / (1 + EPOCHS), role, **how)


def spectrum(name="whole", log=True, k=30):
    ranks = np.arange(1, k + 1)
    values = np.exp(-ranks / 5) / (1 + EPOCHS[:, None])
    return Spectrum(name, "eigenvalue", "rank", EPOCHS, values, log)


def matrices(name="confusion", size=4, low=0.0):
    values = np.linspace(low, 1, len(EPOCHS) * size * size).reshape(-1, size, size)
    names = tuple(f"class {i}" for i in range(size))
    return Matrices(name, "share", names, names, EPOCHS, values)


def panel(*choices, title="A panel"):
    return Panel("a_panel", "Section", title, "What one sees.", choices)


def drawn(draw, choice, *more, width=7.0):
    figure = Figure(figsize=(width, 4), layout="constrained")
    draw(choice, figure, *more)
    figure.draw_without_rendering()
    return figure


def curves(axis):
    return [line for line in axis.lines if len(line.get_xdata()) > 2]


def test_curves_hold_their_values_with_epoch_zero_at_a_half():
    figure = drawn(draw_lines, lines(decay(), decay("test", "test", 2.0), log=True), TIMES)
    (axis,) = figure.axes
    train, test = curves(axis)
    np.testing.assert_array_equal(test.get_ydata(), 2 / (1 + EPOCHS))
    np.testing.assert_array_equal(train.get_xdata(), [0.5, *EPOCHS[1:]])
    assert (train.get_color(), test.get_color()) == (TRAIN, TEST)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert axis.get_xlabel() == "epoch (passes over the training set; 0 drawn at 0.5)"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["train", "test", "memorised 20", "generalised 200"]


def test_a_nan_is_a_gap_and_a_point_alone_a_dot():
    values = np.array([1.0, np.nan, 3, np.nan, np.inf, 6, 7])
    (axis,) = drawn(draw_lines, lines(Series("x", EPOCHS, values))).axes
    line, dots = axis.lines
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False, True, True, False, False]
    assert dots.get_ydata().tolist() == [1, 3]
    assert dots.get_marker() == "."


def test_theory_is_dotted_and_not_of_the_colour_it_lies_on():
    theory = decay("train, theory", theory=True)
    (axis,) = drawn(draw_lines, lines(decay(), theory)).axes
    measured, predicted = curves(axis)
    assert to_hex(predicted.get_color()) != measured.get_color()
    assert (measured.get_linestyle(), predicted.get_linestyle()) == ("-", ":") or (
        predicted.is_dashed() and not measured.is_dashed()
    )


@pytest.mark.parametrize("count", [1, 4, 12])
def test_few_parts_all_differ_in_colour_or_dashes_and_are_named(count):
    parts = [decay(f"layer {i}", "part", 1 + i) for i in range(count)]
    figure = drawn(draw_lines, lines(*parts))
    seen = {(to_hex(c.get_color()), str(c._unscaled_dash_pattern)) for c in curves(figure.axes[0])}
    assert len(seen) == count
    assert not {TRAIN, TEST, NEUTRAL} & {colour for colour, _ in seen}
    assert len(figure.legends[0].get_texts()) == count


def test_of_many_parts_only_the_ends_are_named():
    figure = drawn(draw_lines, lines(*(decay(f"layer {i}", "part", 1 + i) for i in range(40))))
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["layer 0 (first of 40)", "layer 39 (last)"]
    assert len(curves(figure.axes[0])) == 40


def test_a_log_axis_is_refused_to_numbers_without_a_positive_one():
    (axis,) = drawn(draw_lines, lines(decay(scale=-1.0), log=True)).axes
    assert axis.get_yscale() == "linear"


EMPTY = [
    (draw_lines, lines()),
    (draw_lines, lines(Series("x", EPOCHS, np.full(7, np.nan)), log=True)),
    (draw_lines, lines(Series("x", np.array([]), np.array([])))),
    (draw_spectrum, Spectrum("x", "u", "rank", EPOCHS, np.zeros((7, 3)))),
    (draw_spectrum, Spectrum("x", "u", "rank", EPOCHS, np.full((7, 3), np.nan), log=False)),
    (draw_spectrum, Spectrum("x", "u", "rank", np.array([]), np.zeros((0, 3)))),
    (draw_spectrum, Spectrum("x", "u", "rank", EPOCHS, np.zeros((7, 0)))),
    (draw_matrix, Matrices("x", "u", ("a",), ("b",), EPOCHS, np.full((7, 1, 1), np.nan))),
    (draw_matrix, Matrices("x", "u", (), (), EPOCHS, np.zeros((7, 0, 0)))),
]


@pytest.mark.parametrize(("draw", "choice"), EMPTY, ids=range(len(EMPTY)))
def test_what_holds_nothing_says_so(draw, choice):
    figure = drawn(draw, choice)
    assert all(axis.texts[0].get_text() == "no finite values" for axis in figure.axes)
    assert len(figure.axes) >= 1


@pytest.mark.parametrize("extreme", [1e300, -1e300, 1e-300, 0.0])
@pytest.mark.parametrize("log", [False, True])
def test_extreme_numbers_are_drawn(extreme, log):
    values = np.array([1.0, 2, extreme, 3, 4, 5, 6])
    drawn(draw_lines, lines(Series("x", EPOCHS, values), log=log))
    drawn(draw_spectrum, Spectrum("x", "u", "rank", EPOCHS, np.tile(values, (3, 1)).T, log))


def test_the_heat_map_has_a_cell_for_each_epoch_and_rank():
    left, right, bar = drawn(draw_spectrum, spectrum(), TIMES).axes
    (mesh,) = left.collections
    np.testing.assert_array_equal(mesh.get_array(), spectrum().values.T)
    assert isinstance(mesh.norm, LogNorm)
    assert (left.get_xscale(), left.get_yscale(), left.get_ylabel()) == ("log", "log", "rank")
    assert bar.get_ylabel() == "eigenvalue"
    assert right.get_xlim() == left.get_xlim()
    assert len(curves(right)) == 6  # ranks 1, 2, 3, 5, 10, 20


def test_cells_of_the_heat_map_surround_their_epochs():
    left, *_ = drawn(draw_spectrum, spectrum()).axes
    corners = left.collections[0].get_coordinates()
    x, y = corners[0, :, 0], corners[:, 0, 1]
    positions = np.maximum(EPOCHS, 0.5)
    assert (x[:-1] < positions).all()
    assert (positions < x[1:]).all()
    assert (y[:-1] < np.arange(1, 31)).all()
    assert (np.arange(1, 31) < y[1:]).all()


def test_edges_are_geometric_means():
    np.testing.assert_allclose(log_edges(np.array([1.0, 4, 16])), [0.5, 2, 8, 32])
    np.testing.assert_allclose(log_edges(np.array([3.0])), [3 / 2**0.5, 3 * 2**0.5])


def test_limits_leave_out_rounding_and_what_is_not_positive():
    assert positive_limits(np.array([np.nan, -1, 0, 1e-30, 2, np.inf])) == (2e-14, 2)
    assert positive_limits(np.array([0.1, 5])) == (0.1, 5)
    assert positive_limits(np.array([4.0])) == (2, 8)
    assert positive_limits(np.array([0.0, np.nan])) is None


def test_a_spectrum_of_another_order_is_linear_and_shows_its_largest():
    values = np.ones((7, 20))
    values[:, [4, 11]] = [[3.0, 2.0]]
    left, right, _ = drawn(
        draw_spectrum, Spectrum("x", "norm", "frequency", EPOCHS, values, log=False)
    ).axes
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "linear")
    labels = [line.get_label() for line in curves(right)]
    assert {"frequency 5", "frequency 12"} <= set(labels)
    assert len(labels) == 8


def test_chosen_ranks_are_drawn_and_long_spectra_thinned():
    tall = Spectrum("x", "u", "rank", np.arange(2000.0), np.ones((2000, 1000)))
    figure = Figure(figsize=(3.4, 5), layout="constrained")
    draw_spectrum(tall, figure, ranks=(1, 7, 2000))
    left, right, _ = figure.axes
    assert [line.get_label() for line in curves(right)] == ["rank 1", "rank 7"]
    rows, columns = left.collections[0].get_array().shape
    assert rows <= 200
    assert columns <= 400


@pytest.mark.parametrize(("epoch", "row"), [(None, -1), (30, 4)])
def test_the_matrix_of_an_epoch_is_drawn_with_names_and_numbers(epoch, row):
    axis, bar = drawn(draw_matrix, matrices(), epoch).axes
    np.testing.assert_array_equal(axis.images[0].get_array(), matrices().values[row])
    assert axis.get_title() == f"epoch {EPOCHS[row]:.0f}"
    assert [text.get_text() for text in axis.get_xticklabels()] == list(matrices().columns)
    expected = [f"{value:.3g}" for value in matrices().values[row].ravel()]
    assert [text.get_text() for text in axis.texts] == expected
    assert bar.get_ylabel() == "share"


def test_matrices_with_negative_entries_have_colours_about_zero():
    image = drawn(draw_matrix, matrices(low=-3.0), 0).axes[0].images[0]
    assert image.norm.vmin == -image.norm.vmax == -3
    assert drawn(draw_matrix, matrices()).axes[0].images[0].norm.vmin == 0


def test_of_many_rows_some_are_named():
    axis = drawn(draw_matrix, matrices(size=113)).axes[0]
    assert 6 <= len(axis.get_xticklabels()) <= 12
    assert not axis.texts


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["lines", "spectrum", "matrices"])
def test_hostile_names_are_drawn(name, kind):
    names = (name, name)
    choice = {
        "lines": Lines(name, name, (decay(name), decay(name, "part"))),
        "spectrum": Spectrum(name, name, name, EPOCHS, spectrum().values),
        "matrices": Matrices(name, name, names, names, EPOCHS, np.ones((7, 2, 2))),
    }[kind]
    figure = Figure(figsize=(3.4, 8), layout="constrained")
    draw_panel(panel(choice, choice, title=name), choice, figure, TIMES)
    figure.draw_without_rendering()
    words = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
    assert max(map(len, words)) <= 200
    assert not any("\0" in word or "\N{RIGHT-TO-LEFT OVERRIDE}" in word for word in words)


@pytest.mark.refusal
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"choice must be one of .*\(whole, other\), got 'x'"):
        draw_panel(panel(spectrum(), spectrum("other")), spectrum("x"), Figure())
    with pytest.raises(ValueError, match="role must be one of"):
        draw_lines(lines(decay(role="hero")), Figure())
    with pytest.raises(ValueError, match="ranks must be >= 1, got"):
        draw_spectrum(spectrum(), Figure(), ranks=(0, 1))
    with pytest.raises(ValueError, match="epoch must be one with a matrix, got 29; near is 30"):
        draw_matrix(matrices(), Figure(), 29)
