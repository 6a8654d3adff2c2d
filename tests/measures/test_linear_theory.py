"""Linear theory: against the run itself, against quadrature, against the reference table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from grokscope.measures.linear_theory import (
    LinearTheory,
    crossing_time,
    decay_floors,
    late_delay,
    mp_decay_losses,
    mp_expectation,
    mp_test_loss,
    mp_train_loss,
    population_accuracy,
)

# The exact theory of one run


def problem(n: int, d: int, c: int, seed: int = 0):
    """Inputs (n, d), student and teacher (d, c)."""
    rng = np.random.default_rng(seed)
    scale = (2 * d * c) ** -0.5
    x, s, t = rng.standard_normal((n, d)), *(scale * rng.standard_normal((2, d, c)))
    return x, s, t


def descend(x, s, t, rate, decay, steps):
    """The losses of a run by the loop itself, at each of the ascending ``steps``."""
    n, c = len(x), t.shape[1]
    sigma, diff, now, losses = x.T @ x / n, s - t, 0, []
    for step in steps:
        for _ in range(step - now):
            diff = diff - 2 * rate / c * (sigma @ diff + decay / 2 * diff) - rate * decay / c * t
        now = step
        losses.append([((x @ diff) ** 2).sum() / (n * c), (diff**2).sum() / c])
    return np.array(losses).T


STEPS = [0, 1, 2, 3, 10, 57, 300]
SHAPES = [(30, 12, 1), (30, 12, 4), (12, 12, 2), (7, 12, 1), (7, 12, 3), (1, 5, 2), (9, 1, 1)]


@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
def test_theory_is_the_run(n, d, c, decay):
    x, s, t = problem(n, d, c)
    theory = LinearTheory(x, s, t, 0.05, decay)
    train, test = descend(x, s, t, 0.05, decay, STEPS)
    np.testing.assert_allclose(theory.train_loss(STEPS), train, rtol=1e-10)
    np.testing.assert_allclose(theory.test_loss(STEPS), test, rtol=1e-10)


@pytest.mark.parametrize(("n", "decay"), [(20, 0.0), (20, 1e-4), (5, 0.0)])
def test_theory_is_the_run_after_1e5_steps(n, decay):
    x, s, t = problem(n, 8, 1, seed=3)
    steps = [1000, 20_000, 100_000]
    theory = LinearTheory(x, s, t, 2e-4, decay)
    train, test = descend(x, s, t, 2e-4, decay, steps)
    np.testing.assert_allclose(theory.train_loss(steps), train, rtol=1e-10)
    np.testing.assert_allclose(theory.test_loss(steps), test, rtol=1e-10)


@pytest.mark.parametrize("rate", [0.7, 0.9, 1.2])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_oscillating_and_diverging_runs_are_met_too(rate, decay):
    x, s, t = problem(40, 6, 2)
    steps = list(range(25))
    theory = LinearTheory(x, s, t, rate, decay)
    train, test = descend(x, s, t, rate, decay, steps)
    np.testing.assert_allclose(theory.train_loss(steps), train, rtol=1e-10)
    np.testing.assert_allclose(theory.test_loss(steps), test, rtol=1e-10)


def test_a_run_that_diverges_for_ever_ends_at_infinity_without_nan():
    x, _, t = problem(40, 6, 1)
    assert LinearTheory(x, t + 0.1, t, 5.0).test_loss(10**6) == np.inf
    np.testing.assert_array_equal(LinearTheory(x, t, t, 5.0).test_loss([0, 10**6]), [0, 0])


def test_a_mode_that_one_step_solves_is_gone_after_it():
    x = math.sqrt(2) * np.eye(2)  # Sigma = I, so 1 - 2 eta nu = 0 at eta = 1/2
    theory = LinearTheory(x, [[2.0], [0.0]], [[1.0], [1.0]], 0.5)
    np.testing.assert_allclose(theory.test_loss([0, 1, 7]), [2, 0, 0], atol=1e-30)


def test_torch_sgd_with_weight_decay_gamma_over_d_out_is_the_run():
    x, s, t = problem(30, 12, 4)
    inputs, student = torch.from_numpy(x), torch.nn.Parameter(torch.from_numpy(s.copy()))
    targets = inputs @ torch.from_numpy(t)
    optimizer = torch.optim.SGD([student], lr=0.05, weight_decay=0.3 / 4)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(inputs @ student, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    theory = LinearTheory(inputs, torch.from_numpy(s), torch.from_numpy(t), 0.05, 0.3)
    np.testing.assert_allclose(theory.train_loss(range(20)), losses, rtol=1e-10)


def test_null_space_keeps_its_loss_for_ever():
    x, s, t = problem(5, 12, 3)
    x = np.concatenate([x, x[:3]])  # repeated samples leave the rank at 5
    unseen = np.eye(12) - np.linalg.pinv(x) @ x
    theory = LinearTheory(x, s, t, 0.05)
    floor = ((unseen @ (s - t)) ** 2).sum() / 3
    np.testing.assert_allclose(theory.test_loss([10**7, 10**12]), floor, rtol=1e-12)
    np.testing.assert_allclose(theory.train_loss(10**7), 0, atol=1e-30)


def test_weight_decay_ends_at_ridge_regression():
    x, s, t = problem(20, 8, 2)
    sigma = x.T @ x / 20
    ridge = np.linalg.solve(sigma + 0.05 * np.eye(8), sigma @ t)
    end = LinearTheory(x, s, t, 0.05, 0.1).test_loss(10**6)
    np.testing.assert_allclose(end, ((ridge - t) ** 2).sum() / 2, rtol=1e-12)


def test_small_early_changes_keep_their_digits():
    x, _, t = problem(20, 8, 1)
    theory = LinearTheory(x, t, t, 1e-4, 1e-4)  # starts at loss 0
    train, test = descend(x, t, t, 1e-4, 1e-4, [1, 2])
    np.testing.assert_allclose(theory.train_loss([1, 2]), train, rtol=1e-10)
    np.testing.assert_allclose(theory.test_loss([1, 2]), test, rtol=1e-10)


def test_losses_have_the_shape_of_the_steps_and_do_not_depend_on_the_chunk(monkeypatch):
    theory = LinearTheory(*problem(20, 8, 2), 0.05, 0.01)
    steps = np.arange(60).reshape(3, 4, 5)
    whole = theory.test_loss(steps)
    assert whole.shape == (3, 4, 5)
    assert theory.test_loss(7).shape == ()
    monkeypatch.setattr("grokscope.measures.linear_theory._CHUNK_VALUES", 17)
    np.testing.assert_allclose(theory.test_loss(steps), whole, rtol=1e-14)
    assert theory.train_loss([]).shape == (0,)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"inputs": np.ones(3)}, "inputs must be a matrix"),
        ({"inputs": np.full((4, 3), np.nan)}, "inputs must be finite"),
        ({"teacher": np.ones((4, 2))}, r"teacher must be \(3, c\)"),
        ({"student": np.ones((3, 1))}, r"student must be \(3, 2\)"),
        ({"learning_rate": 0}, "learning_rate must be a number > 0"),
        ({"weight_decay": -1e-3}, "weight_decay must be a number >= 0"),
    ],
)
def test_wrong_arguments_are_refused(change, match):
    right = {"inputs": np.ones((4, 3)), "student": np.ones((3, 2)), "teacher": np.ones((3, 2))}
    with pytest.raises(ValueError, match="^" + match):
        LinearTheory(**({"learning_rate": 0.1} | right | change))


@pytest.mark.refusal
@pytest.mark.parametrize("step", [-1, 0.5, np.nan, [0, np.inf]])
def test_steps_are_whole_numbers(step):
    with pytest.raises(ValueError, match=r"^step must be whole"):
        LinearTheory(*problem(4, 3, 1), 0.1).train_loss(step)


# The limit of large size

RATIOS = [0.01, 0.1, 0.5, 0.9, 0.999, 1 - 1e-7, 1.0, 1 + 1e-7, 1.5, 30.0]
ETA = 0.01


@pytest.mark.parametrize("ratio", RATIOS)
def test_closed_form_is_the_quadrature(ratio):
    for t in [0, 1, 30, 1e3, 1e5]:
        mean = mp_expectation(
            lambda nu, t=t: nu * np.exp(-4 * ETA * nu * t), ratio, rate=4 * ETA * t
        )
        assert mp_train_loss(t, ratio, ETA) == pytest.approx(mean, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("ratio", [0.1, 0.9, 1.5])
def test_quadrature_is_another_quadrature(ratio):
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2

    def integrand(nu):
        density = math.sqrt((high - nu) * (nu - low)) / (2 * math.pi * ratio * nu)
        return density * math.exp(-4 * ETA * nu * 40)

    slow = integrate.quad(integrand, low, high, epsabs=1e-11)[0] + max(0, 1 - 1 / ratio)
    assert mp_test_loss(40, ratio, ETA) == pytest.approx(slow, rel=1e-8)


@pytest.mark.parametrize("ratio", RATIOS)
def test_law_has_the_known_moments(ratio):
    moments = [mp_expectation(lambda nu, k=k: nu**k, ratio) for k in (0, 1, 2)]
    assert moments == pytest.approx([1, 1, 1 + ratio], rel=1e-12)
    if ratio < 0.9999:
        inverse = mp_expectation(lambda nu: 1 / nu, ratio)
        assert inverse == pytest.approx(1 / (1 - ratio), rel=1e-10)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 1.5])
def test_test_loss_is_one_minus_the_integral_of_the_train_loss(ratio):
    root = math.sqrt(ratio)

    def integrand(u):
        return special.i1e(2 * root * u) * math.exp(-u * (1 - root) ** 2) / (root * u)

    end = 4 * ETA * 100
    expected = 1 - integrate.quad(integrand, 0, end, epsabs=1e-12)[0]
    assert mp_test_loss(100, ratio, ETA) == pytest.approx(expected, rel=1e-9)


def test_limits_early_and_late():
    np.testing.assert_allclose(mp_train_loss(0, 0.5, ETA), 1, rtol=1e-12)
    np.testing.assert_allclose(mp_test_loss(0, 0.5, ETA), 1, rtol=1e-12)
    np.testing.assert_allclose(mp_test_loss(1e6, 1.5, ETA), 1 / 3, rtol=1e-12)
    t, gap = 1e6, 1 - math.sqrt(0.9)
    scale = 16 * math.sqrt(math.pi) * 0.9**0.75 * (ETA * t) ** 1.5
    train = math.exp(-4 * ETA * gap**2 * t) / scale
    np.testing.assert_allclose(mp_train_loss(t, 0.9, ETA), train, rtol=1e-3)
    np.testing.assert_allclose(mp_test_loss(t, 0.9, ETA), train / gap**2, rtol=0.1)


def test_several_outputs_slow_the_flow_and_share_the_loss():
    t = np.array([[0, 10.0], [100, 1000]])
    for curve in (mp_train_loss, mp_test_loss):
        np.testing.assert_allclose(curve(t, 0.9, ETA, 5), curve(t, 0.9, ETA / 5) / 5, rtol=1e-14)


THEORY = [  # ratio 0.5: step, train loss, test loss
    (10, 0.57106, 0.69576),
    (50, 0.11923, 0.26759),
    (200, 1.0195e-2, 4.8862e-2),
    (500, 9.411e-4, 6.578e-3),
    (1000, 6.024e-5, 5.140e-4),
]


def test_reference_losses_at_ratio_one_half():
    t, train, test = np.array(THEORY).T
    np.testing.assert_allclose(mp_train_loss(t, 0.5, ETA), train, rtol=1e-4)
    np.testing.assert_allclose(mp_test_loss(t, 0.5, ETA), test, rtol=1e-4)


@pytest.mark.parametrize(
    ("ratio", "threshold", "t_train", "t_test", "late"),
    [
        (0.1, 1e-3, 273.2, 296.5, 40.7),
        (0.1, 1e-6, 583.5, 614.0, 40.7),
        (0.5, 1e-3, 725.1, 1156.4, 715.7),
        (0.5, 1e-6, 2245.8, 2822.8, 715.7),
        (0.9, 1e-3, 2408.5, 22889.7, 56386),
        (0.9, 1e-6, 31426.6, 74075.7, 56386),
    ],
)
def test_reference_crossing_times(ratio, threshold, t_train, t_test, late):
    level = threshold / 4
    found = [
        crossing_time(lambda t, curve=curve: curve(t, ratio, ETA), level)
        for curve in (mp_train_loss, mp_test_loss)
    ]
    assert found == pytest.approx([t_train, t_test], abs=0.051)
    assert late_delay(ratio, ETA) == pytest.approx(late, rel=2e-3)


def test_delay_tends_to_the_late_one_as_the_threshold_falls():
    def delay(level):
        times = [
            crossing_time(lambda t, curve=curve: curve(t, 0.5, ETA), level)
            for curve in (mp_train_loss, mp_test_loss)
        ]
        return times[1] - times[0]

    delays = [delay(10.0**-k) for k in (6, 30, 150)]
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(late_delay(0.5, ETA), rel=0.02)


def test_weight_decay_leaves_the_mean_loss_that_the_law_predicts():
    """The paper's eq. 15 at late times; its eq. 16 as printed is twice too large."""

    def end(gamma, power):
        return 0.5 * mp_expectation(
            lambda nu: (gamma / 2 / (nu + gamma / 2)) ** 2 * nu**power, 0.5
        )

    assert [end(0.1, 1), end(0.1, 0)] == pytest.approx([1.804e-3, 6.136e-3], rel=3e-4)
    small = 1e-4
    assert end(small, 1) == pytest.approx(small**2 / (8 * 0.5), rel=1e-3)
    assert end(small, 0) == pytest.approx(small**2 / (8 * 0.5**3), rel=1e-3)


def test_losses_with_weight_decay_end_at_the_floors():
    assert mp_decay_losses(1e7, 0.5, ETA, 0.1) == pytest.approx([1.804e-3, 6.136e-3], rel=3e-4)
    for ratio in (0.1, 0.5, 0.9):
        ends = mp_decay_losses(1e9, ratio, ETA, 1e-5)
        assert ends == pytest.approx(decay_floors(ratio, 1e-5), rel=2e-2)


def test_losses_with_weight_decay_begin_at_one_and_tend_to_those_without():
    t = np.array([0.0, 10, 300, 3000])
    train, test = mp_decay_losses(t, 0.5, ETA, 1e-9)
    np.testing.assert_allclose(train, mp_train_loss(t, 0.5, ETA), rtol=1e-5)
    np.testing.assert_allclose(test, mp_test_loss(t, 0.5, ETA), rtol=1e-5)
    assert mp_decay_losses(0, 0.9, ETA, 0.1) == pytest.approx([1, 1])
    assert mp_decay_losses(1e6, 1.5, ETA, 0.1)[1] > 1 / 6


def test_losses_with_weight_decay_are_those_of_runs():
    steps = np.array([10, 100, 1000, 100_000])
    runs = [LinearTheory(*problem(400, 200, 1, seed), ETA, 0.1) for seed in range(4)]
    train = np.mean([run.train_loss(steps) for run in runs], axis=0)
    test = np.mean([run.test_loss(steps) for run in runs], axis=0)
    expected = mp_decay_losses(steps, 0.5, ETA, 0.1)
    np.testing.assert_allclose(train, expected[0], rtol=0.15)
    np.testing.assert_allclose(test, expected[1], rtol=0.15)


def test_runs_of_size_200_are_near_the_limit_while_no_edge_mode_dominates():
    theories = [LinearTheory(*problem(400, 200, 1, seed), ETA) for seed in range(4)]
    steps = np.array([0, 10, 50])
    train = np.mean([theory.train_loss(steps) for theory in theories], axis=0)
    test = np.mean([theory.test_loss(steps) for theory in theories], axis=0)
    np.testing.assert_allclose(train, mp_train_loss(steps, 0.5, ETA), rtol=0.15)
    np.testing.assert_allclose(test, mp_test_loss(steps, 0.5, ETA), rtol=0.15)


# Accuracy and crossings


def test_one_output_gives_the_error_function():
    losses = np.array([[1e-5, 2.5e-4], [1e-3, 10.0]])
    expected = special.erf(np.sqrt(1e-3 / (2 * losses)))
    np.testing.assert_allclose(population_accuracy(losses, 1e-3), expected, rtol=1e-12)
    assert population_accuracy(2.5e-4, 1e-3) == pytest.approx(0.9545, abs=1e-4)
    assert population_accuracy(0.0, 1e-3) == 1


@pytest.mark.parametrize("d_out", [1, 2, 7])
def test_accuracy_is_the_share_of_gaussian_errors_under_the_threshold(d_out):
    errors = np.random.default_rng(0).normal(0, math.sqrt(0.3), (100_000, d_out))
    share = ((errors**2).mean(1) < 0.4).mean()
    assert population_accuracy(0.3, 0.4, d_out) == pytest.approx(share, abs=0.006)


def test_delay_is_longest_near_fifty_outputs():
    """Levi et al., Fig. 2: ratio 0.9, threshold 1e-3, not monotone in the outputs."""

    def delay(d_out):
        level = 1e-3 * d_out / 2 / special.gammaincinv(d_out / 2, 0.9545)
        times = [
            crossing_time(lambda t, curve=curve: curve(t, 0.9, ETA, d_out), level)
            for curve in (mp_train_loss, mp_test_loss)
        ]
        return times[1] - times[0]

    delays = {d_out: delay(d_out) for d_out in (1, 50, 700)}
    assert delays[50] > 2 * max(delays[1], delays[700])


def test_crossing_is_found_at_any_scale_and_is_infinite_where_there_is_none():
    for scale in (1e-3, 1.0, 1e6):
        time = crossing_time(lambda t, scale=scale: math.exp(-t / scale), 0.1)
        assert time == pytest.approx(scale * math.log(10), rel=1e-6)
    assert crossing_time(lambda t: 0.1, 0.2) == 0
    assert crossing_time(lambda t: mp_test_loss(t, 1.5, ETA), 0.3) == math.inf


def test_crossing_of_a_run_is_its_first_step_at_the_level():
    theory = LinearTheory(*problem(30, 12, 1), 0.01)
    losses = theory.test_loss(np.arange(2000))
    step = crossing_time(lambda t: theory.test_loss(int(t)), 0.01)
    assert round(step) == np.argmax(losses <= 0.01)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mp_train_loss(-1, 0.5, ETA), "t must be finite"),
        (lambda: mp_test_loss([np.nan], 0.5, ETA), "t must be finite"),
        (lambda: mp_train_loss(1, 0, ETA), "ratio must be a number > 0"),
        (lambda: mp_test_loss(1, 0.5, 0), "eta must be a number > 0"),
        (lambda: mp_test_loss(1, 0.5, ETA, 0), "d_out must be an integer"),
        (lambda: mp_expectation(np.exp, -1), "ratio must be"),
        (lambda: mp_expectation(np.exp, 1, rate=-1), "rate must be"),
        (lambda: population_accuracy(-1, 1e-3), "loss must be"),
        (lambda: population_accuracy(1, 0), "threshold must be"),
        (lambda: crossing_time(lambda t: 1, 0), "level must be"),
        (lambda: mp_decay_losses(1, 0.5, ETA, 0), "weight_decay must be a number > 0"),
        (lambda: decay_floors(1.5, 0.1), "ratio must be a number > 0 and < 1"),
        (lambda: late_delay(1.5, ETA), "ratio must be a number > 0 and < 1"),
    ],
)
def test_arguments_without_meaning_are_refused(call, match):
    with pytest.raises(ValueError, match="^" + match):
        call()
