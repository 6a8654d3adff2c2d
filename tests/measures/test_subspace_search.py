"""The search for the common subspace: its gradient, known minima, another optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from grokscope.measures import subspace_search
from grokscope.measures.subspace_search import descend


def centers(P=9, r=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((P, r)) + 1.5 * rng.standard_normal((P, 1)) * np.eye(1, r)


def rows(k, r, seed=0):
    return np.ascontiguousarray(
        np.linalg.qr(np.random.default_rng(seed).standard_normal((r, k))).Q.T
    )


def objective(X, Y):
    """Half the sum of squared cosines of what is left without the row span of Y."""
    V = np.linalg.qr(Y.T).Q
    left = X - X @ V @ V.T
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    return 0.5 * ((left @ left.T) ** 2).sum()


@pytest.mark.parametrize("k", [1, 3, 6])
def test_value_and_gradient_are_those_of_the_definition(k):
    X, origin, step = centers(), rows(k, 8), 1e-5
    W = np.random.default_rng(1).standard_normal((k, 8)) * 0.3
    W -= W @ origin.T @ origin
    value, gradient = subspace_search._evaluate(X, X @ X.T, origin, W, np.empty_like(W))
    assert value == pytest.approx(objective(X, origin + W), rel=1e-12)
    np.testing.assert_allclose(gradient @ origin.T, 0.0, atol=1e-12)
    direction = np.random.default_rng(2).standard_normal((k, 8))
    direction -= direction @ origin.T @ origin
    slope = (
        objective(X, origin + W + step * direction) - objective(X, origin + W - step * direction)
    ) / (2 * step)
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_end_is_a_minimum_that_a_general_optimiser_does_not_improve(k):
    X = centers()
    V, value, evaluations = descend(X, X @ X.T, rows(k, 8, seed=k))
    np.testing.assert_allclose(V @ V.T, np.eye(k), atol=1e-10)
    assert value == pytest.approx(objective(X, V), rel=1e-12)
    assert value < objective(X, rows(k, 8, seed=k))
    assert 1 < evaluations < 5000
    slow = minimize(lambda y: objective(X, y.reshape(k, 8)), V.ravel(), method="BFGS")
    assert slow.fun > value * (1 - 1e-4)


def test_one_direction_in_the_plane_is_found_as_on_a_fine_grid():
    X = centers(P=5, r=2, seed=3)
    angles = np.linspace(0, np.pi, 20_001)
    grid = [objective(X, np.array([[np.cos(a), np.sin(a)]])) for a in angles[::50]]
    # in the plane nothing but a line is left, so every cosine is 1 or -1
    np.testing.assert_allclose(grid, 0.5 * 25)
    X = centers(P=5, r=3, seed=3)
    best = min(descend(X, X @ X.T, rows(1, 3, seed=s))[1] for s in range(20))
    u, v = np.meshgrid(np.linspace(-1, 1, 80), np.linspace(0, np.pi, 80))
    directions = np.stack([np.sqrt(1 - u**2) * np.cos(v), np.sqrt(1 - u**2) * np.sin(v), u], -1)
    grid = [objective(X, d[None]) for d in directions.reshape(-1, 3)]
    assert best <= min(grid) + 1e-9
    assert best == pytest.approx(min(grid), rel=5e-3)


def test_orthogonal_centers_plus_a_common_direction_are_uncorrelated_without_it():
    X = np.column_stack([np.eye(6), np.full(6, 3.0)])
    V, value, _ = descend(X, X @ X.T, rows(1, 7))
    assert value == pytest.approx(3.0)  # each center's cosine with itself; V may be a reflection
    left = X - X @ V.T @ V
    np.testing.assert_allclose(left @ left.T, np.diag((left**2).sum(1)), atol=1e-3)


def test_compiled_code_is_what_python_does(monkeypatch):
    X, start = centers(), rows(3, 8)
    V, value, _ = descend(X, X @ X.T, start)
    for name, item in vars(subspace_search).items():
        if hasattr(item, "py_func"):
            monkeypatch.setattr(subspace_search, name, item.py_func)
    interpreted, same, _ = subspace_search.descend(X, X @ X.T, start)
    assert same == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(interpreted.T @ interpreted, V.T @ V, atol=1e-2)


def test_a_start_that_holds_a_center_is_left_alone():
    X = np.column_stack([np.eye(4), np.zeros(4)])
    V, value, _ = descend(X, X @ X.T, np.eye(1, 5))
    assert np.isinf(value)
    np.testing.assert_array_equal(V, np.eye(1, 5))
