"""Joint capacity: reference numbers, an independent solver in full dimensions, its identity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from manifold_recipes import cases, clouds
from scipy.optimize import nnls

from grokscope.measures import glue
from grokscope.measures.capacity import glue_capacity

DIRECT = ("alpha", "D_eff", "R_eff", "Psi_eff")
OTHERS = ("alpha_from_a",)  # named in the reference alone


def draw(recipe, seed):
    """Probes and labels as the reference numbers have them."""
    r, n, P = np.random.default_rng(seed), recipe["n_t"], recipe["P"]
    T = r.standard_normal((n, recipe["N"]))
    if recipe["labels"] == "random":
        return T, 2 * r.integers(0, 2, (n, P)) - 1
    Y = -np.ones((n, P))
    Y[np.arange(n), r.integers(0, P, n)] = 1
    return T, Y


def small(seed=0, P=4, N=30, M=8):
    return clouds(seed=seed, P=P, N=N, D=4, M=M)


def test_reference_numbers_on_the_same_probes(shared):
    for case in cases(shared, "glue_fixed_t_y"):
        tolerance = case["tolerance"]["relative_same_t_y"]
        for seed, expected in zip(case["ty_seeds"], case["per_seed"], strict=True):
            probes, labels = draw(case["recipe"], seed)
            found = glue_capacity(clouds(**case["recipe"]), probes=probes, labels=labels)
            for name, value in expected.items():
                if name not in OTHERS:
                    close = tolerance[name if name in DIRECT else "alignments"]
                    assert getattr(found, name) == pytest.approx(value, rel=close), name


def test_reference_numbers_on_our_probes(shared):
    for case in cases(shared, "glue_fixed_t_y"):
        points, kind = clouds(**case["recipe"]), case["recipe"]["labels"]
        found = glue_capacity(points, dichotomies=kind, seed=1)
        for name in DIRECT:
            expected = case["over_seeds"][name]
            allowed = 5 * expected["sd"] * math.sqrt(1.2)
            assert abs(getattr(found, name) - expected["mean"]) < allowed, (case["name"], name)
        assert 0.4 < found.standard_error / case["over_seeds"]["alpha"]["sd"] < 2.5


def slow(points, probes, labels):
    """The definition, probe by probe in N dimensions, with scipy's solver."""
    P, M, _ = points.shape
    anchors, active, distances = [], [], []
    for t, y in zip(probes, labels, strict=True):
        signed = (y[:, None, None] * points).reshape(P * M, -1)
        z, distance = nnls(-signed.T, t)
        z = z.reshape(P, M)
        active.append(z.sum(1) > 1e-6)
        distances.append(distance)
        total = np.where(active[-1], z.sum(1), 1.0)
        anchors.append((z[:, :, None] * points).sum(1) / total[:, None] * active[-1][:, None])
    S, active = np.array(anchors), np.array(active)
    S0 = np.array([S[active[:, mu], mu].mean(0) for mu in range(P)])
    S1 = (S - S0) * active[..., None]
    values = {"a": [], "b": [], "c": [], "rho_c": [], "rho_a": [], "psi": []}
    for s, s1, t in zip(S, S1, probes, strict=True):
        values["a"].append((s @ t) @ np.linalg.pinv(s @ s.T, rcond=1e-10) @ (s @ t))
        values["b"].append((s1 @ t) @ np.linalg.pinv(s1 @ s1.T, rcond=1e-10) @ (s1 @ t))
        both = np.linalg.pinv(S0 @ S0.T + s1 @ s1.T, rcond=1e-10)
        values["c"].append((s1 @ t) @ both @ (s1 @ t))
        for mu in range(P):
            for nu in range(P):
                if mu != nu:
                    values["rho_c"].append(abs(S0[mu] @ S0[nu]))
                    values["rho_a"].append(abs(s1[mu] @ s1[nu]))
                    values["psi"].append(abs(S0[mu] @ s1[nu]))
    a, b, c = (np.mean(values[name]) for name in "abc")
    assert np.mean(distances) <= np.mean(np.linalg.norm(probes, axis=1))
    return {
        "alpha": P / a,
        "D_eff": b / P,
        "R_eff": math.sqrt(c / (b - c)),
        "Psi_eff": c / a,
        **{name: np.mean(values[name]) for name in ("rho_c", "rho_a", "psi")},
        "active_fraction": active.mean(),
    }


def test_the_definition_probe_by_probe():
    points, rng = small(), np.random.default_rng(0)
    probes = rng.standard_normal((12, 30))
    labels = rng.choice([-1.0, 1.0], (12, 4))
    found = glue_capacity(points, probes=probes, labels=labels)
    for name, value in slow(points, probes, labels).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("dichotomies", ["one_vs_rest", "random"])
def test_capacity_from_dimension_radius_and_utility(dichotomies):
    found = glue_capacity(small(), dichotomies=dichotomies)
    expected = found.Psi_eff * (1 + found.R_eff**-2) / found.D_eff
    assert found.alpha == pytest.approx(expected, rel=1e-9)
    assert found.alpha_centerfill <= found.alpha


def test_points_have_capacity_two_for_random_labels():
    points = np.random.default_rng(0).standard_normal((4, 1, 400))
    found = glue_capacity(points, dichotomies="random", n_probes=4000)
    assert abs(found.alpha - 2.0) < 4 * found.standard_error
    assert (found.D_eff, found.R_eff, found.Psi_eff) == (0.0, 0.0, 0.0)
    assert (found.rho_a, found.psi) == (0.0, 0.0)
    assert math.isnan(found.rho_a_norm_abs)


def test_manifolds_about_the_origin_have_no_centers():
    x = np.random.default_rng(0).standard_normal((2, 3, 20))
    found = glue_capacity(np.concatenate([x, -x], axis=1), n_probes=2000)
    assert found.R_eff > 10.0


def test_rotation_and_scale_change_no_effective_number():
    points, rng = small(), np.random.default_rng(2)
    rotation = np.linalg.qr(rng.standard_normal((30, 30))).Q
    probes, labels = rng.standard_normal((20, 30)), rng.choice([-1.0, 1.0], (20, 4))
    first = glue_capacity(points, probes=probes, labels=labels)
    second = glue_capacity(5 * points @ rotation, probes=probes @ rotation, labels=-labels * -1)
    for name in (*DIRECT, "rho_c_norm_abs", "psi_norm_signed"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-7)
    assert second.rho_c == pytest.approx(25 * first.rho_c)


def test_turning_labels_and_probe_turns_nothing():
    points, rng = small(), np.random.default_rng(3)
    probes, labels = rng.standard_normal((20, 30)), rng.choice([-1.0, 1.0], (20, 4))
    first = glue_capacity(points, probes=probes, labels=labels)
    second = glue_capacity(points, probes=-probes, labels=-labels)
    assert second.alpha == pytest.approx(first.alpha, rel=1e-9)
    assert second.R_eff == pytest.approx(first.R_eff, rel=1e-7)


def test_a_dead_manifold_is_never_active():
    points = small()
    points[2] = 0.0
    found = glue_capacity(points)
    assert found.active_fraction <= 0.75
    assert math.isfinite(found.alpha)


def test_manifolds_may_differ_in_size_and_the_seed_decides():
    points = [small()[0], small(M=3)[1]]
    first = glue_capacity(points, seed=1)
    assert glue_capacity(points, seed=1) == first
    assert glue_capacity(points, seed=2) != first


def test_labels_given_without_probes_meet_the_drawn_ones():
    drawn = glue_capacity(small(), n_probes=5, dichotomies="random", seed=3)
    labels = 2 * np.random.default_rng(3).spawn(2)[1].integers(0, 2, (5, 4)) - 1
    assert glue_capacity(small(), n_probes=5, labels=labels, seed=3) == drawn


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: glue_capacity(small()[:1]), "manifolds must be at least 2"),
        (lambda: glue_capacity(0 * small()), "manifolds must hold points other than zero"),
        (lambda: glue_capacity(small(), dichotomies="all"), "dichotomies must be one of"),
        (lambda: glue_capacity(small(), n_probes=0), "n_probes must be an integer >= 1"),
        (lambda: glue_capacity(small(), seed=-1), "seed must be an integer >= 0"),
        (lambda: glue_capacity(small(), probes=np.ones((2, 29))), r"probes must be \(n_t, 30\)"),
        (
            lambda: glue_capacity(small(), n_probes=3, labels=np.ones((2, 4))),
            r"labels must be \(3, 4\), got \(2, 4\)",
        ),
        (
            lambda: glue_capacity(small(), n_probes=2, labels=np.zeros((2, 4))),
            r"labels must be \+1 or -1",
        ),
    ],
)
def test_bad_input_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


@pytest.mark.refusal
def test_a_problem_that_was_not_solved_is_refused(monkeypatch):
    monkeypatch.setattr(glue, "solve_all", lambda gram, linear, signs: np.nan * linear)
    with pytest.raises(ArithmeticError, match="depend on each other up to rounding"):
        glue_capacity(small())
