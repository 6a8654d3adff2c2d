"""The active-set solver: its optimality conditions, another solver, and itself interpreted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from grokscope.measures import anchor_qp
from grokscope.measures.anchor_qp import solve, solve_all, solve_probes, workspace


def problem(m, d, seed=0, low_rank=False):
    """Points (m, d + 1) with the coordinate along the center, and a probe."""
    rng = np.random.default_rng(seed)
    S = rng.standard_normal((m, d))
    if low_rank:
        S[:, d // 2 :] = 0.0
        S[m // 2 :] = S[: m - m // 2]  # every point twice
    return np.column_stack([S, np.ones(m)]), rng.standard_normal(d + 1)


def solved(S, linear, signs=None, active=None):
    work = workspace(len(S))
    if active is not None:
        work.active[:] = active
    k = solve(S @ S.T, linear, np.ones(len(S)) if signs is None else signs, work)
    assert k == work.active.sum() == np.count_nonzero(work.dual)
    return work.dual.copy()


@settings(max_examples=150, deadline=None)
@given(
    m=st.integers(1, 40),
    d=st.integers(1, 25),
    kappa=st.floats(-2, 2),
    seed=st.integers(0, 10**6),
    low_rank=st.booleans(),
    signed=st.booleans(),
    warm=st.booleans(),
)
def test_the_optimality_conditions_hold(m, d, kappa, seed, low_rank, signed, warm):
    """Feasible duals, feasible v = t - S'u, and a dual of zero where a constraint is slack."""
    S, t = problem(m, d, seed, low_rank)
    rng = np.random.default_rng(seed + 1)
    signs = np.where(rng.random(m) < 0.5, -1.0, 1.0) if signed else np.ones(m)
    kappa = 0.0 if signed else kappa  # a margin may make a dichotomy infeasible
    u = solved(S, S @ t + kappa, signs, rng.random(m) < 0.3 if warm else None)
    slack = signs * (S @ (t - S.T @ u) + kappa)
    size = 1e-8 * (1 + np.abs(S @ t).max() + np.abs(u).sum() * (S**2).sum(1).max())
    assert (signs * u >= 0).all()
    assert slack.max() <= size
    assert np.abs(u * slack).max() <= size * (1 + np.abs(u).max())


@pytest.mark.parametrize(("m", "d"), [(5, 30), (40, 10), (120, 120)])
def test_the_duals_are_those_of_scipy(m, d):
    for seed in range(5):
        S, t = problem(m, d, seed)
        np.testing.assert_allclose(solved(S, S @ t), nnls(S.T, t)[0], atol=1e-10)


def test_the_distance_is_that_of_scipy_for_repeated_and_dependent_points():
    for seed in range(10):
        S, t = problem(30, 8, seed, low_rank=True)
        u = solved(S, S @ t)
        assert np.linalg.norm(t - S.T @ u) == pytest.approx(nnls(S.T, t)[1], abs=1e-9)


def test_any_start_leads_to_the_same_duals():
    S, t = problem(60, 40)
    cold, rng = solved(S, S @ t), np.random.default_rng(0)
    for start in (cold > 0, np.ones(60, bool), rng.random(60) < 0.5):
        np.testing.assert_allclose(solved(S, S @ t, active=start), cold, atol=1e-11)


def test_signs_turn_points():
    """A dichotomy of points x is the plain problem of the points y x, with duals turned back."""
    S, t = problem(20, 30)
    signs = np.where(np.arange(20) % 3, 1.0, -1.0)
    turned = solved(signs[:, None] * S, signs * (S @ t))
    np.testing.assert_allclose(solved(S, S @ t, signs), signs * turned, atol=1e-11)
    both = solve_all(S @ S.T, np.stack([S @ t, S @ t]), np.stack([signs, np.ones(20)]))
    np.testing.assert_allclose(both[0], signs * turned, atol=1e-11)
    np.testing.assert_allclose(both[1], solved(S, S @ t), atol=1e-11)


def test_a_probe_inside_the_cone_has_the_point_of_largest_product():
    S, _ = problem(6, 3)
    t = np.array([0.5, -0.2, 0.1, -50.0])
    products = (S[:, :-1] @ t[:-1])[None]
    found, weights = solve_probes(
        S[:, :-1] @ S[:, :-1].T, products, products + t[-1], np.zeros((1, 6), bool)
    )
    best = int(products.argmax())
    assert weights.tolist() == np.eye(6)[best].tolist()
    assert found[0].tolist() == pytest.approx([0.0, (S[best, :-1] ** 2).sum(), products[0, best]])


def test_a_problem_without_a_solution_is_reported():
    gram = np.array([[1.0, -2.0], [-2.0, 1.0]])  # indefinite: unbounded below
    assert np.isnan(solve_all(gram, np.ones((1, 2)), np.ones((1, 2)))).all()
    found, _ = solve_probes(gram - 1, np.ones((1, 2)), np.ones((1, 2)), np.zeros((1, 2), bool))
    assert np.isnan(found[0, 0])


def test_compiled_code_is_what_python_does(monkeypatch):
    S, _ = problem(25, 12)
    T = np.random.default_rng(1).standard_normal((13, 8))
    T[-1, 0] = -50.0  # inside the cone
    gram, products = S[:, :-1] @ S[:, :-1].T, T[:-1].T @ S[:, :-1].T
    linear, signs = products + T[-1][:, None], np.ones(products.shape)
    start = np.random.default_rng(2).random(products.shape) < 0.3
    compiled = (
        *solve_probes(gram, products, linear, start.copy()),
        solve_all(S @ S.T, linear, signs),
    )
    for name, value in vars(anchor_qp).items():
        if hasattr(value, "py_func"):
            monkeypatch.setattr(anchor_qp, name, value.py_func)
    interpreted = (
        *anchor_qp.solve_probes(gram, products, linear, start.copy()),
        anchor_qp.solve_all(S @ S.T, linear, signs),
    )
    for a, b in zip(compiled, interpreted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)
