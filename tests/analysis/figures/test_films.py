"""Films of training: frames, sizes, fixed axes, and the embedding's circles."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from grokscope.analysis.figures import Circles, FourierNorms, animate, fourier_norms
from grokscope.analysis.figures.animation import MOST_BYTES
from grokscope.analysis.figures.fourier import circle_positions, start_circles, start_fourier
from grokscope.analysis.panels.model import Matrices, Spectrum

EPOCHS = np.arange(6.0)
P = 7
RNG = np.random.default_rng(0)


def spectrum(log=True):
    values = np.exp(-np.arange(10) - EPOCHS[:, None])
    return Spectrum("whole", "eigenvalue", "rank", EPOCHS, values, log)


def matrices(epochs=EPOCHS, size=3):
    names = tuple(map(str, range(size)))
    values = RNG.normal(size=(len(epochs), size, size))
    return Matrices("m", "entry", names, names, epochs, values)


NORMS = FourierNorms("W_E", EPOCHS, RNG.random((6, P)))
CIRCLES = Circles("W_E", EPOCHS, RNG.normal(size=(6, P, 4)), (1, 3))
FILMED = [spectrum(), spectrum(log=False), matrices(), NORMS, CIRCLES]


def frames(path):
    with Image.open(path) as film:
        for i in range(film.n_frames):
            film.seek(i)
            yield np.asarray(film.convert("RGB")).astype(int)


@pytest.mark.parametrize("filmed", FILMED, ids=["log", "linear", "matrices", "norms", "circles"])
def test_each_kind_becomes_a_gif_with_a_frame_for_each_epoch(filmed, tmp_path):
    path = animate(filmed, tmp_path / "film.gif", most=4)
    shown = list(frames(path))
    assert len(shown) == 4
    assert shown[0].shape == (420, 560, 3)
    assert all((a != b).any() for a, b in pairwise(shown))
    assert path.stat().st_size < MOST_BYTES


def test_everything_but_the_curve_and_the_title_stays(tmp_path):
    values = np.ones((2, 10))
    values[1, :5] = 0.5
    film = Spectrum("x", "u", "rank", np.array([0.0, 5]), values)
    first, last = frames(animate(film, tmp_path / "film.gif"))
    changed = np.argwhere((first != last).any(2))
    (top, left), (bottom, _) = (end(changed[changed[:, 0] > 40], 0) for end in (np.min, np.max))
    assert left > 95  # ticks on the left stay,
    assert bottom < 300  # those below,
    assert top > 100  # and the legend
    assert (first[0, 0] == 255).all()


def test_films_are_the_same_byte_by_byte(tmp_path):
    a, b = (animate(spectrum(), tmp_path / f"{i}.gif", most=3).read_bytes() for i in range(2))
    assert a == b


def test_a_film_that_is_too_large_loses_frames_but_not_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr("grokscope.analysis.figures.animation.MOST_BYTES", 150_000)
    film = matrices(np.arange(8.0), 60)
    path = animate(film, tmp_path / "film.gif")
    shown = list(frames(path))
    assert 2 <= len(shown) < 8
    assert path.stat().st_size <= 150_000
    monkeypatch.undo()
    whole = list(frames(animate(film, tmp_path / "whole.gif")))
    np.testing.assert_array_equal(shown[-1], whole[-1])


@pytest.mark.parametrize("name", ["$\\frac{", "a\n\0", "x$" * 5000])
def test_hostile_names_are_filmed(name, tmp_path):
    film = Matrices(name, name, (name,), (name,), EPOCHS[:2], np.ones((2, 1, 1)))
    assert len(list(frames(animate(film, tmp_path / "a.gif", title=name)))) == 2


def test_values_that_no_axis_shows_are_left_out(tmp_path):
    values = spectrum().values.copy()
    values[0] = np.nan
    values[1, :3] = [np.inf, -1, 1e300]
    film = Spectrum("x", "u", "rank", EPOCHS, values)
    assert len(list(frames(animate(film, tmp_path / "a.gif", most=3)))) == 3
    norms = FourierNorms("x", EPOCHS, np.where(NORMS.values > 0.5, np.nan, NORMS.values))
    assert len(list(frames(animate(norms, tmp_path / "b.gif", most=2)))) == 2


def test_bars_show_the_constant_cos_and_sin_of_each_frequency():
    figure = Figure()
    start_fourier(NORMS, figure)(4)
    (axis,) = figure.axes
    at = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in axis.patches}
    row = NORMS.values[4]
    expected = {0.0: row[0]}
    for k in (1, 2, 3):
        expected |= {k - 0.2: row[2 * k - 1], k + 0.2: row[2 * k]}
    assert at == expected


def test_fourier_norms_are_those_of_a_run():
    metrics = {"circuits/W_L_fourier_norms": NORMS.values, "circuits/epoch": EPOCHS[:5]}
    found = fourier_norms(SimpleNamespace(metrics=metrics, path="a run"), "W_L")
    assert found.name == "W_L"
    np.testing.assert_array_equal(found.values, NORMS.values[:5])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_an_embedding_of_one_frequency_is_a_circle_in_its_order(k):
    angles = 2 * np.pi * k * np.arange(P) / P
    plane = np.linalg.qr(RNG.normal(size=(5, 2)))[0].T  # orthonormal directions
    embedding = np.stack([np.cos(angles), np.sin(angles)], 1) @ plane + RNG.normal(size=5)
    places = circle_positions(embedding, k)
    centred = places - places.mean(0)
    np.testing.assert_allclose(centred, np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-12)


def test_circle_positions_are_projections_on_the_fourier_directions():
    embedding = RNG.normal(size=(P, 3))
    places = circle_positions(embedding, 2)
    for column, wave in enumerate((np.cos, np.sin)):
        direction = sum(wave(4 * np.pi * a / P) * embedding[a] for a in range(P))
        direction /= sum(direction**2) ** 0.5
        np.testing.assert_allclose(places[:, column], [row @ direction for row in embedding])
    assert not circle_positions(np.ones((P, 3)) * 0, 1).any()


@pytest.mark.refusal
def test_what_cannot_be_filmed_is_refused(tmp_path):
    path = tmp_path / "none.gif"
    with pytest.raises(ValueError, match="must have a row for each of at least one epoch"):
        animate(Spectrum("x", "u", "rank", EPOCHS[:0], np.ones((0, 3))), path)
    with pytest.raises(ValueError, match="got 6 rows and 2 epochs"):
        animate(Spectrum("x", "u", "rank", EPOCHS[:2], np.ones((6, 3))), path)
    with pytest.raises(ValueError, match="Spectrum x must hold a positive number, got none"):
        animate(Spectrum("x", "u", "rank", EPOCHS, np.zeros((6, 3))), path)
    with pytest.raises(ValueError, match="FourierNorms x must hold a finite number, got none"):
        animate(FourierNorms("x", EPOCHS, np.full((6, 3), np.nan)), path)
    with pytest.raises(ValueError, match="most must be an integer >= 2, got 1"):
        animate(spectrum(), path, most=1)
    with pytest.raises(ValueError, match=r"frequencies must be one to four, got \(\)"):
        start_circles(Circles("x", EPOCHS, CIRCLES.values, ()), Figure())
    assert not path.exists()


@pytest.mark.refusal
def test_embeddings_and_runs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="frequency must be an integer >= 1 and <= 3, got 4"):
        circle_positions(np.ones((P, 2)), 4)
    with pytest.raises(ValueError, match=r"embedding must be \(p, d\)"):
        circle_positions(np.ones(P), 1)
    with pytest.raises(ValueError, match="run must have recorded circuits/W_E_fourier_norms"):
        fourier_norms(SimpleNamespace(metrics={}, path="a run"))
    even = {"circuits/W_E_fourier_norms": np.ones((2, 4)), "circuits/epoch": np.ones(2)}
    with pytest.raises(ValueError, match=r"must be \(rows, p\) with an odd p, got \(2, 4\)"):
        fourier_norms(SimpleNamespace(metrics=even, path="a run"))
