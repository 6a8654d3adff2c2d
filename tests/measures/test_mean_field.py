"""Mean-field capacity: reference numbers, invariances, edges, and series of nets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from manifold_recipes import cases, clouds

from grokscope.measures.capacity import WarmStart, mean_field_capacity, point_capacity

NAMES = {
    "capacity": "capacity_harmonic",
    "radius": "radius_mean",
    "dimension": "dimension_mean",
}
PLAIN = {"remove_correlations": False}


def small(seed=0, P=8, N=40, M=15, **options):
    return clouds(seed=seed, P=P, N=N, D=6, M=M, K_common=2, rho=0.4, **options)


def numbers(found):
    return [found.capacity, found.radius, found.dimension]


def test_reference_numbers_on_the_same_probes(shared):
    """The released code's numbers to its own precision: 1e-6, and 1e-5 where duals enter."""
    for case in cases(shared, "mean_field_no_centre_removal"):
        recipe = case["recipe"]
        for seed, expected in zip(case["legacy_numpy_seeds"], case["per_seed"], strict=True):
            legacy = np.random.RandomState(seed)
            probes = [legacy.randn(recipe["M"] + 1, recipe["n_t"]) for _ in range(recipe["P"])]
            found = mean_field_capacity(clouds(**recipe), probes=probes, **PLAIN)
            for ours, theirs in NAMES.items():
                close = {"rel": 1e-6 if ours == "capacity" else 1e-5}
                assert getattr(found, ours) == pytest.approx(expected[theirs], **close)


def test_reference_numbers_on_our_probes(shared):
    for case in cases(shared, "mean_field_no_centre_removal"):
        found = mean_field_capacity(clouds(**case["recipe"]), **PLAIN)
        for ours, theirs in NAMES.items():
            tolerance = case["tolerance"][theirs]
            assert abs(getattr(found, ours) - tolerance["centre"]) < tolerance["absolute"]
        spread = case["independent_solver_50_seeds"]["capacity_harmonic"]["sd"]
        assert 0.6 * spread < found.standard_error < 1.6 * spread


def test_reference_numbers_with_removal(shared):
    for case in cases(shared, "mean_field_with_low_rank_centre_removal"):
        points, tolerance = clouds(**case["recipe"]), case["tolerance"]
        for k in tolerance["K_allowed"]:
            for seed in range(5):
                found = mean_field_capacity(points, n_components=k, n_reps=2, seed=seed)
                for ours, theirs in NAMES.items():
                    at = tolerance["given_K"][str(k)][theirs]
                    assert abs(getattr(found, ours) - at["centre"]) < at["absolute"], (k, seed)
        for seed in range(10):
            found = mean_field_capacity(points, n_reps=2, seed=seed)
            assert found.n_components in tolerance["K_allowed"]
            assert found.center_correlation == pytest.approx(
                case["centre_correlation_before"],
                rel=tolerance["centre_correlation_before_relative"],
            )


def test_means_over_manifolds():
    found = mean_field_capacity(small())
    each = found.per_manifold
    assert len(each) == 8
    assert 1 / found.capacity == pytest.approx(np.mean([1 / one.capacity for one in each]))
    assert found.radius == pytest.approx(np.mean([one.radius for one in each]))
    assert found.dimension == pytest.approx(np.mean([one.dimension for one in each]))


def test_points_have_the_capacity_of_points():
    rng = np.random.default_rng(0)
    for kappa in (0.0, 0.5):
        points = rng.standard_normal((10, 1, 20))
        found = mean_field_capacity(points, kappa=kappa, n_probes=5000, **PLAIN)
        assert abs(found.capacity - point_capacity(kappa)) < 4 * found.standard_error
        assert (found.radius, found.dimension) == (0.0, 0.0)


def test_shift_scale_and_rotation_change_nothing():
    points, rng = small(), np.random.default_rng(1)
    rotation = np.linalg.qr(rng.standard_normal((40, 40))).Q
    moved = 3.0 * points @ rotation + rng.standard_normal(40)
    first, second = mean_field_capacity(points), mean_field_capacity(moved)
    assert first.n_components == second.n_components
    assert numbers(second) == pytest.approx(numbers(first), rel=1e-3)  # a search lies between
    first, second = mean_field_capacity(points, **PLAIN), mean_field_capacity(moved, **PLAIN)
    assert numbers(second) == pytest.approx(numbers(first), rel=1e-9)


def test_kinds_of_arrays_are_taken_alike():
    points = small().astype(np.float32)
    found = mean_field_capacity(points)
    assert mean_field_capacity(list(torch.from_numpy(points))) == found
    assert mean_field_capacity([x.tolist() for x in points]) == found


def test_manifolds_may_differ_in_size_and_have_more_points_than_dimensions():
    points = [small()[0], *small(M=60)[1:]]
    found = mean_field_capacity(points)
    assert math.isfinite(found.capacity)
    # 60 points in 40 dimensions: D = N
    one = mean_field_capacity(points, probes=[np.ones((16, 3)), *[np.ones((41, 3))] * 7])
    assert len(one.per_manifold) == 8


def test_drawn_probes_have_the_same_law_as_those_of_the_householder_basis():
    points, rng = small(M=10), np.random.default_rng(0)
    probes = [rng.standard_normal((11, 4000)) for _ in points]
    first = mean_field_capacity(points, probes=probes, **PLAIN)
    second = mean_field_capacity(points, n_probes=4000, **PLAIN)
    assert abs(first.capacity - second.capacity) < 6 * first.standard_error
    assert first.radius == pytest.approx(second.radius, rel=0.01)
    assert first.dimension == pytest.approx(second.dimension, rel=0.01)


def test_two_manifolds_have_centers_opposite_to_each_other():
    found = mean_field_capacity(small(P=2), **PLAIN)
    assert found.center_correlation == pytest.approx(1.0)
    assert found.n_components == 0
    assert math.isfinite(found.capacity)


def test_three_manifolds_allow_one_component():
    assert mean_field_capacity(small(P=3)).n_components == 1


def test_a_manifold_of_one_repeated_point_counts_as_a_point():
    points = small()
    points[3] = points[3, 0]
    found = mean_field_capacity(points, **PLAIN)
    assert found.per_manifold[3].radius == 0.0
    assert math.isfinite(found.capacity)


def test_no_random_state_but_its_own_is_touched_and_the_seed_decides():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = mean_field_capacity(small(), seed=5)
    assert (np.random.get_state()[1] == before).all()
    assert mean_field_capacity(small(), seed=5) == first
    assert mean_field_capacity(small(), seed=6) != first


def test_one_probe_has_no_standard_error():
    assert math.isnan(mean_field_capacity(small(), n_probes=1).standard_error)


def drifting(n=5, step=0.03):
    rng, points = np.random.default_rng(3), small()
    for _ in range(n):
        yield points
        points = points + step * points.std() * rng.standard_normal(points.shape)


def test_a_warm_series_gives_the_numbers_of_cold_calls():
    warm = WarmStart()
    for points in drifting():
        found = mean_field_capacity(points, warm=warm, **PLAIN)
        cold = mean_field_capacity(points, **PLAIN)
        assert numbers(found) == pytest.approx(numbers(cold), rel=1e-9)


def test_a_warm_series_with_removal_stays_within_the_spread_of_cold_starts():
    """It follows one local minimum; random starts end in several."""
    warm = WarmStart()
    for points in drifting():
        found = mean_field_capacity(points, warm=warm, n_components=2)
        cold = [mean_field_capacity(points, n_components=2, seed=s) for s in range(10)]
        assert found.center_correlation == cold[0].center_correlation
        capacities = [one.capacity for one in cold]
        assert 0.95 * min(capacities) < found.capacity < 1.05 * max(capacities)
    again = mean_field_capacity(points, warm=warm, n_components=2)
    assert numbers(again) == pytest.approx(numbers(found), rel=1e-3)


def dead(points, value):
    points = points.copy()
    points[4] = value
    return points


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: mean_field_capacity(small()[:1]), "manifolds must be at least 2, got 1"),
        (
            lambda: mean_field_capacity([np.ones((2, 3)), np.ones((2, 4))]),
            r"manifolds\[1\] must have 3 features as manifolds\[0\], got 4",
        ),
        (lambda: mean_field_capacity(small() * np.nan), r"manifolds\[0\] must be finite"),
        (lambda: mean_field_capacity([[1.0], [2.0]]), r"manifolds\[0\] must be a matrix"),
        (lambda: mean_field_capacity(small(P=2)), "must have at least 3 manifolds"),
        (
            lambda: mean_field_capacity(np.zeros((3, 2, 5)), **PLAIN),
            r"manifolds\[0\] must have a center away from the mean of all points",
        ),
        (
            lambda: mean_field_capacity(
                dead(small(), np.delete(small(), 4, 0).mean((0, 1))), **PLAIN
            ),
            r"manifolds\[4\] must have a center away from the mean of all points",
        ),
        (
            lambda: mean_field_capacity(dead(small(), np.delete(small(), 4, 0).mean((0, 1)))),
            r"manifolds\[4\] must have a center away from the mean of all centers",
        ),
        (lambda: mean_field_capacity(small(), n_components=7), "n_components must be at most 6"),
        (lambda: mean_field_capacity(small(), n_components=0), "n_components must be an integer"),
        (
            lambda: mean_field_capacity(small(), n_components=1, **PLAIN),
            "n_components must be None without remove_correlations",
        ),
        (lambda: mean_field_capacity(small(), n_reps=0), "n_reps must be an integer >= 1"),
        (lambda: mean_field_capacity(small(), n_probes=0), "n_probes must be an integer >= 1"),
        (lambda: mean_field_capacity(small(), seed=-1), "seed must be an integer >= 0"),
        (lambda: mean_field_capacity(small(), kappa=math.inf), "kappa must be a number"),
        (
            lambda: mean_field_capacity(small(), remove_correlations=1),
            "remove_correlations must be true or false",
        ),
        (
            lambda: mean_field_capacity(small(), probes=[np.ones((16, 2))]),
            "probes must be 8 matrices, got 1",
        ),
        (
            lambda: mean_field_capacity(small(), probes=[np.ones((15, 2))] * 8),
            r"probes\[0\] must be \(16, 2\) for 15 points in 40 dimensions, got \(15, 2\)",
        ),
    ],
)
def test_bad_input_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("other", "options", "reason"),
    [
        (small(P=7), {}, "warm must come from as many"),
        (small(M=14), {}, "warm must come from as many"),
        (small(), {"n_probes": 30}, "warm must come from as many"),
        (small(N=39), {}, "warm must come from manifolds in 39 dimensions, got 40"),
    ],
)
def test_a_warm_start_of_other_manifolds_is_refused(other, options, reason):
    warm = WarmStart()
    mean_field_capacity(small(), n_components=1, warm=warm)
    with pytest.raises(ValueError, match=reason):
        mean_field_capacity(other, n_components=1, warm=warm, **options)
