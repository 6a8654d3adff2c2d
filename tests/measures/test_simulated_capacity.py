"""Simulated capacity: separability by another solver, Cover's theorem, reference numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from manifold_recipes import cases, clouds
from scipy.optimize import linprog

from grokscope.measures.capacity import simulated_capacity
from grokscope.measures.simulated_capacity import _separable


def test_separable_is_what_a_linear_program_finds():
    rng, counts = np.random.default_rng(0), [0, 0]
    for _ in range(150):
        m, d = rng.integers(3, 30), rng.integers(1, 12)
        X, y = rng.standard_normal((m, d)) + 3.0, np.sign(rng.standard_normal(m))
        rows = -y[:, None] * np.column_stack([X, np.ones(m)])
        answer = linprog(np.zeros(d + 1), A_ub=rows, b_ub=-np.ones(m), bounds=(None, None))
        assert _separable(X, y) == (answer.status == 0)
        counts[answer.status == 0] += 1
    assert min(counts) > 30


def test_a_hyperplane_may_have_a_bias():
    assert _separable(np.array([[1.0], [2.0]]), np.array([1.0, -1.0]))
    assert not _separable(np.array([[1.0], [2.0], [3.0]]), np.array([1.0, -1.0, 1.0]))
    assert not _separable(np.zeros((2, 3)), np.array([1.0, -1.0]))


def test_points_are_separable_half_of_the_time_at_half_their_number():
    """Cover: P points in general position, n + 1 free numbers; capacity 2 with P = 2 (n + 1)."""
    points = np.random.default_rng(0).standard_normal((40, 1, 60))
    found = simulated_capacity(points, n_repeats=100)
    assert found.N_critical == pytest.approx(19.0, abs=1.5)
    assert found.alpha_sim == 40 / found.N_critical


def test_reference_numbers(shared):
    for case in cases(shared, "simulated_capacity_bisection"):
        expected, tolerance = case["over_seeds"]["mean"], case["tolerance"]["absolute"]
        points = clouds(**case["recipe"])
        each = [simulated_capacity(points, seed=s).alpha_sim for s in range(5)]
        assert max(abs(x - expected) for x in each) < tolerance
        assert np.mean(each) == pytest.approx(expected, abs=tolerance / 2)


def test_the_crossing_is_interpolated_between_neighbors():
    found = simulated_capacity(clouds(seed=0, P=8, N=30, D=3, M=5), seed=2)
    low = math.floor(found.N_critical)
    if found.N_critical == low:
        assert found.shares[low] == 0.5
    else:
        p, q = found.shares[low], found.shares[low + 1]
        assert p < 0.5 <= q
        assert found.N_critical == pytest.approx(low + (0.5 - p) / (q - p))
    assert all(0 <= share <= 1 for share in found.shares.values())


def test_a_share_that_never_crosses_one_half_gives_nan():
    rng = np.random.default_rng(0)
    easy = simulated_capacity(rng.standard_normal((2, 1, 10)))
    hard = simulated_capacity(rng.standard_normal((10, 200, 3)))
    for found in (easy, hard):
        assert math.isnan(found.alpha_sim)
        assert math.isnan(found.N_critical)
    assert easy.shares[2] == 1.0
    assert hard.shares[3] == 0.0


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: simulated_capacity(np.ones((1, 2, 5))), "manifolds must be at least 2"),
        (lambda: simulated_capacity(np.ones((3, 2, 2))), "must have at least 3 features, got 2"),
        (lambda: simulated_capacity(np.ones((3, 2, 5)), n_repeats=0), "n_repeats must be"),
        (lambda: simulated_capacity(np.ones((3, 2, 5)), seed=-1), "seed must be"),
    ],
)
def test_bad_input_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
