"""Closed forms: against each other, sampling, and reference numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from manifold_recipes import cases
from scipy.integrate import quad
from scipy.stats import norm

from grokscope.measures.capacity import ball_capacity, ball_radius, point_capacity


@pytest.mark.parametrize("kappa", [-1.0, 0.0, 0.3, 2.0])
def test_points_by_integration(kappa):
    integral = quad(lambda t: norm.pdf(t) * (t + kappa) ** 2, -kappa, 40)[0]
    assert point_capacity(kappa) == pytest.approx(1 / integral, rel=1e-9)


def test_points_have_capacity_two_without_a_margin():
    assert point_capacity() == pytest.approx(2.0, rel=1e-15)


@pytest.mark.parametrize("dimension", [1, 3, 10, 50])
def test_balls_of_unit_radius_have_two_over_d_plus_one(dimension):
    assert ball_capacity(1.0, dimension) == pytest.approx(2 / (dimension + 1), rel=1e-9)


@pytest.mark.parametrize("kappa", [-0.5, 0.0, 1.0])
def test_tiny_balls_are_points(kappa):
    assert ball_capacity(1e-7, 5, kappa) == pytest.approx(point_capacity(kappa), rel=1e-5)
    assert ball_radius(1e-7, 5, kappa) == pytest.approx(1e-7, rel=1e-5)


def nearest(radius, dimension, kappa, n=400_000):
    """Squared distances of sampled probes to the cone, and lengths of their anchors."""
    rng = np.random.default_rng(0)
    t = np.sqrt(rng.chisquare(dimension, n))
    z = rng.standard_normal(n)
    gap = kappa - z
    apex = gap > t / radius
    surface = np.maximum(gap + radius * t, 0.0) ** 2 / (1 + radius**2)
    distances = np.where(apex, gap**2 + t**2, surface)
    lengths = np.where(apex, t / np.where(apex, gap, 1.0), radius)
    return distances, lengths


@pytest.mark.parametrize(
    ("radius", "dimension", "kappa"), [(0.5, 3, 0.0), (2.0, 6, 0.7), (1.0, 2, -0.4)]
)
def test_balls_by_sampling(radius, dimension, kappa):
    distances, lengths = nearest(radius, dimension, kappa)
    error = distances.std() / math.sqrt(len(distances))
    assert 1 / ball_capacity(radius, dimension, kappa) == pytest.approx(
        distances.mean(), abs=4 * error
    )
    error = (lengths**2).std() / math.sqrt(len(lengths))
    expected = (lengths**2).mean()
    assert ball_radius(radius, dimension, kappa) ** 2 == pytest.approx(expected, abs=4 * error)


def test_reference_numbers(shared):
    for case in cases(shared, "point_manifold_gardner"):
        for row in case["rows"]:
            assert point_capacity(row["kappa"]) == pytest.approx(row["alpha"], rel=1e-10)
    for case in cases(shared, "solid_ball_closed_form"):
        close = {"rel": case["tolerance"]["integral_relative"]}
        for row in case["rows"]:
            ball = row["R"], row["D"], row["kappa"]
            assert ball_capacity(*ball) == pytest.approx(row["alpha"], **close)
            assert ball_radius(*ball) == pytest.approx(row["R_M"], **close)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: point_capacity(math.nan), "kappa must be a number"),
        (lambda: ball_capacity(0.0, 3), "radius must be a number > 0"),
        (lambda: ball_capacity(1.0, 0), "dimension must be a number > 0"),
        (lambda: ball_radius(1.0, 3, math.inf), "kappa must be a number"),
    ],
)
def test_bad_input_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
