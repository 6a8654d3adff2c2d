"""Keskar's sharpness where the maximum is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from grokscope.measures.sharpness import keskar_sharpness


def linear(slope, at=2.0):
    return lambda x: (float(at + slope @ x), slope)


def basis(x, n_directions, radius, seed):
    """A and the box, as the formula says."""
    rows = np.random.default_rng(seed).uniform(-1, 1, (n_directions, len(x)))
    rows = np.stack([row / np.sqrt((row**2).sum()) for row in rows])
    return rows.T @ np.linalg.inv(rows @ rows.T), radius * (np.abs(rows @ x) + 1)


def test_a_linear_loss_is_largest_in_a_corner():
    rng = np.random.default_rng(0)
    x, slope = rng.normal(size=30), rng.normal(size=30)
    a, box = basis(x, 4, 1e-2, 3)
    rise = np.abs(a.T @ slope) @ box
    expected = 100 * rise / (1 + 2 + slope @ x)
    found = keskar_sharpness(linear(slope), x, n_directions=4, radius=1e-2, seed=3)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_convex_loss_is_largest_in_the_best_corner_or_near_it(seed):
    rng = np.random.default_rng(seed)
    factor, x = rng.normal(size=(8, 8)), 0.1 * rng.normal(size=8)
    matrix = factor @ factor.T
    a, box = basis(x, 3, 0.1, seed)

    def loss(w):
        return w @ matrix @ w / 2, matrix @ w

    corners = [a @ (box * signs) for signs in itertools.product((-1, 1), repeat=3)]
    best = max(loss(x + corner)[0] for corner in corners)
    found = keskar_sharpness(loss, x, n_directions=3, radius=0.1, seed=seed)
    upper = 100 * (best - loss(x)[0]) / (1 + loss(x)[0])
    assert 0 < found <= upper * (1 + 1e-12)
    assert found > 0.3 * upper  # a local maximum


def test_it_is_zero_at_the_top_of_a_hill_and_grows_with_curvature():
    x = np.zeros(5)
    assert keskar_sharpness(lambda w: (1 - w @ w, -2 * w), x, n_directions=2) == 0.0
    start = np.full(5, 0.5)
    found = [
        keskar_sharpness(lambda w, k=k: (k * w @ w, 2 * k * w), start, n_directions=2)
        for k in (0.01, 0.1)
    ]
    assert found[1] > 5 * found[0] > 0


def test_the_weights_are_left_alone_and_a_seed_repeats():
    x, slope = np.ones(6), np.arange(6.0)
    values = [keskar_sharpness(linear(slope), x, n_directions=2, seed=s) for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert (x == 1).all()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": np.ones((2, 2))}, r"weights must be \(m,\), got shape \(2, 2\)"),
        ({"n_directions": 5}, "n_directions must be an integer >= 1 and <= 4"),
        ({"radius": 0.0}, "radius must be a number > 0"),
        ({"iterations": 0}, "iterations must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    arguments = {"weights": np.ones(4), "n_directions": 2, **settings}
    with pytest.raises(ValueError, match=message):
        keskar_sharpness(linear(np.ones(4)), **arguments)
