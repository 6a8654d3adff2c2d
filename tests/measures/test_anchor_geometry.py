"""One manifold: reference numbers on the same probes, points by hand, the ball."""

from __future__ import annotations

import math

import numpy as np
import pytest
from manifold_recipes import cases, core_points

from grokscope.measures.anchor_geometry import anchors, standard_error
from grokscope.measures.capacity import anchor_geometry, ball_capacity, point_capacity

KINDS = ("core_fixed_t", "core_fixed_t_sampled_sphere")


def probes(dimension, n, seed=0):
    return np.random.default_rng(seed).standard_normal((dimension + 1, n))


@pytest.mark.parametrize("kind", KINDS)
def test_reference_numbers_on_the_same_probes(shared, kind):
    for case in cases(shared, kind):
        recipe, tolerance = case["recipe"], case["tolerance"]["relative_same_t_float64"]
        for seed, expected in zip(case["t_seeds"], case["per_seed"], strict=True):
            t = probes(recipe["D"], recipe["n_t"], seed)
            found = anchor_geometry(core_points(recipe), t, recipe["kappa"])
            assert found.capacity == pytest.approx(expected["alpha"], rel=tolerance["alpha"])
            for name in ("radius", "dimension"):
                value = getattr(found, name)
                assert value == pytest.approx(expected[name], rel=tolerance[name]), case["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_means_over_other_probes_agree_with_the_reference(shared, kind):
    """20 times as many probes: within 4 standard deviations of either mean."""
    for case in cases(shared, kind):
        recipe, n_t = case["recipe"], 4000
        found = anchor_geometry(core_points(recipe), probes(recipe["D"], n_t, 1), recipe["kappa"])
        for name, value in vars(found).items():
            expected = case["monte_carlo_50_seeds"]["alpha" if name == "capacity" else name]
            sd = expected["sd"] * math.sqrt(recipe["n_t"] / n_t + 1 / expected["n"])
            # radius and dimension are biased by 1 / n_t; a small share of the deviation of one run
            assert abs(value - expected["mean"]) < 4 * sd + 0.2 * expected["sd"], case["name"]


def test_one_point_by_hand():
    """v = t less its part above -kappa along the center: E (t0 + kappa)_+^2 = 1 / alpha."""
    t = probes(1, 100, 3)
    found = anchor_geometry([[0.0], [1.0]], t, 0.4)
    assert 1 / found.capacity == pytest.approx((np.maximum(t[1] + 0.4, 0) ** 2).mean())
    assert (found.radius, found.dimension) == (0.0, 0.0)
    many = anchor_geometry([[0.0], [1.0]], probes(1, 400_000), 0.4)
    assert many.capacity == pytest.approx(point_capacity(0.4), rel=0.01)


def test_two_points_by_hand():
    """At t = (1, 1) the corner (1, 1) of [-1, 1] x 1 is the anchor, and v = 0 is the nearest."""
    found = anchor_geometry([[1.0, -1.0], [1.0, 1.0]], [[1.0, -1.0], [1.0, 1.0]])
    assert found.capacity == pytest.approx(0.5)
    assert found.radius == pytest.approx(1.0)
    assert found.dimension == pytest.approx(1.0)


def test_a_densely_sampled_ball_is_a_ball():
    Z = np.random.default_rng(0).standard_normal((2, 400))
    points = np.vstack([0.8 * Z / np.linalg.norm(Z, axis=0), np.ones((1, 400))])
    found = anchor_geometry(points, probes(2, 20_000))
    assert found.capacity == pytest.approx(ball_capacity(0.8, 2), rel=0.03)
    assert found.dimension == pytest.approx(2.0, rel=1e-3)


def test_coordinates_may_be_rotated_and_points_reordered():
    rng = np.random.default_rng(4)
    points = np.vstack([rng.standard_normal((6, 15)), np.ones((1, 15))])
    rotation = np.eye(7)
    rotation[:6, :6] = np.linalg.qr(rng.standard_normal((6, 6))).Q
    t = probes(6, 50)
    first = anchor_geometry(points, t, 0.1)
    second = anchor_geometry((rotation @ points)[:, rng.permutation(15)], rotation @ t, 0.1)
    assert list(vars(second).values()) == pytest.approx(list(vars(first).values()), rel=1e-9)


def test_a_point_inside_the_hull_changes_nothing():
    points = np.vstack([np.random.default_rng(5).standard_normal((4, 9)), np.ones((1, 9))])
    more = np.column_stack([points, points.mean(1)])
    t = probes(4, 60)
    first, second = anchor_geometry(points, t), anchor_geometry(more, t)
    assert list(vars(second).values()) == pytest.approx(list(vars(first).values()), rel=1e-9)


def test_all_probes_inside_the_cone_give_an_infinite_capacity():
    t = np.array([[1.0], [-9.0]])
    assert anchor_geometry([[1.0], [1.0]], t).capacity == math.inf


def test_standard_error_of_a_mean():
    values = np.random.default_rng(0).standard_normal(10)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / math.sqrt(10))
    assert math.isnan(standard_error(values[:1]))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("points", "t", "reason"),
    [
        (np.ones((1, 3)), np.ones((1, 2)), r"points and probes must be \(D \+ 1, M\)"),
        (np.ones((3, 3)), np.ones((2, 2)), r"points and probes must be \(D \+ 1, M\)"),
        (np.zeros((3, 3)), np.ones((3, 2)), "points must be 1 in their last row, got 0"),
        (np.full((3, 3), np.nan), np.ones((3, 2)), "points must be finite"),
        (np.ones(3), np.ones((3, 2)), "points must be a matrix"),
    ],
)
def test_bad_input_is_refused(points, t, reason):
    with pytest.raises(ValueError, match=reason):
        anchor_geometry(points, t)


@pytest.mark.refusal
def test_a_problem_without_a_solution_is_refused():
    gram = np.array([[0.0, -3.0], [-3.0, 0.0]])  # products of no points
    with pytest.raises(ArithmeticError, match="did not converge"):
        anchors(gram, np.ones((1, 2)), np.ones((2, 1)), 0.0)
