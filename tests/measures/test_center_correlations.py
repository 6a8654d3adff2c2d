"""Common subspaces of centers: by hand, their rules, and starts from a solution."""

from __future__ import annotations

import numpy as np
import pytest

from grokscope.measures.center_correlations import center_correlation, common_subspace


def drawn(P=10, N=30, common=2, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.standard_normal((P, common)) @ rng.standard_normal((common, N))
    return rng.standard_normal((P, N)) + 2 * low


def found(centers, **options):
    return common_subspace(centers, rng=np.random.default_rng(1), **options)


def slow_correlation(centers, basis):
    X = centers - centers.mean(0)
    X = X - X @ basis @ basis.T
    total, n = 0.0, len(X)
    for i in range(n):
        for j in range(n):
            if i != j:
                total += abs(X[i] @ X[j]) / np.linalg.norm(X[i]) / np.linalg.norm(X[j])
    return total / n / (n - 1)


def test_correlations_are_those_of_what_is_left():
    centers = drawn()
    result = found(centers)
    assert center_correlation(centers) == pytest.approx(slow_correlation(centers, np.eye(30, 0)))
    assert result.correlations[0] == pytest.approx(center_correlation(centers), rel=1e-12)
    for k, basis in enumerate(result.bases, start=1):
        np.testing.assert_allclose(basis.T @ basis, np.eye(k), atol=1e-10)
        assert result.correlations[k] == pytest.approx(slow_correlation(centers, basis))
    assert result.n_components == 1 + np.argmin(result.correlations[1:])
    assert result.basis is result.bases[result.n_components - 1]


def test_a_simplex_has_correlations_of_one_over_p_minus_one():
    assert center_correlation(np.eye(5)) == pytest.approx(1 / 4)


def test_a_strong_common_structure_is_found_and_removed():
    result = found(drawn(P=20, N=60, common=2))
    assert result.n_components in (2, 3)
    assert result.correlations[result.n_components] < 0.5 * result.correlations[0]


def test_stability_is_the_smallest_share_that_is_left():
    centers = drawn()
    result, X = found(centers), centers - centers.mean(0)
    for basis, stability in zip(result.bases, result.stabilities, strict=True):
        left = np.linalg.norm(X - X @ basis @ basis.T, axis=1) / np.linalg.norm(X, axis=1)
        assert stability == pytest.approx(left.min())


def test_ranks_tried_end_at_p_minus_two_or_with_three_rises():
    assert len(found(drawn(P=4)).bases) == 2
    result = found(drawn(P=25, N=60, common=1))
    rises = np.diff(result.correlations[-4:]) > 0
    assert len(result.bases) == 23 or rises.all()


def test_centers_of_low_rank_keep_a_dimension():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((12, 4)) @ rng.standard_normal((4, 30))
    assert len(found(centers).bases) == 3


def test_a_fixed_number_is_taken():
    result = found(drawn(), n_components=4)
    assert result.basis.shape == (30, 4)
    assert len(result.bases) == 4


def test_a_known_solution_is_kept():
    centers = drawn()
    first = found(centers)
    second = found(centers + 1e-4 * drawn(seed=9), previous=first)
    for a, b in zip(first.bases[:3], second.bases[:3], strict=True):
        assert np.linalg.norm(a.T @ b) ** 2 == pytest.approx(a.shape[1], abs=0.02)


def test_a_solution_that_swallows_a_center_is_sought_anew():
    centers = drawn(P=6)
    X = centers - centers.mean(0)
    first = found(centers)
    # a net whose solution for k = 1 is a center of the next one
    bases = (X[0][:, None] / np.linalg.norm(X[0]), *first.bases[1:])
    spoilt = type(first)(first.correlations, bases, (0.9, *first.stabilities[1:]), 1)
    again = found(centers, previous=spoilt)
    assert again.stabilities[0] == pytest.approx(first.stabilities[0], abs=0.05)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("centers", "options", "reason"),
    [
        (drawn(P=2), {}, "at least 3 manifolds, whose centers span 2 .* got 2 that span 1"),
        (np.outer([1.0, 2.0, 4.0], np.ones(5)), {}, "got 3 that span 1"),
        (np.array([[0.0], [1.0], [2.0]]), {}, r"manifolds\[1\] must have a center away from"),
        (drawn(), {"n_components": 9}, "n_components must be at most 8"),
        (drawn(), {"n_components": True}, "n_components must be an integer >= 1"),
        (drawn(), {"n_reps": 0}, "n_reps must be an integer >= 1"),
        (drawn(N=29), {"previous": found(drawn())}, "warm must come from manifolds in 29"),
    ],
)
def test_bad_input_is_refused(centers, options, reason):
    with pytest.raises(ValueError, match=reason):
        found(centers, **options)
