"""Representations of a table: parallelograms, RQI, predictions and the effective flow."""

from __future__ import annotations

from itertools import combinations_with_replacement, permutations

import numpy as np
import pytest

from grokscope.measures.representation import (
    degrees_of_freedom,
    effective_flow,
    effective_loss,
    embedding_entropy,
    equations,
    grokking_rates,
    ideal,
    parallelograms,
    predicted_correct,
    predicted_steps,
    real,
    representation_quality_index,
    standardised,
    within,
)

P = 10
PAIRS = np.array(list(combinations_with_replacement(range(P), 2)))
SUMS = PAIRS.sum(axis=1)
P0 = parallelograms(SUMS)
A = equations(PAIRS, P0, P)


def quadruples(p: int) -> list[tuple[int, int, int, int]]:
    """The released code's loop."""
    return [
        (i, n, j, m)
        for i in range(p)
        for j in range(i + 1, p)
        for m in range(j, p)
        for n in range(m + 1, p)
        if i + n == j + m
    ]


def their_rqi(table, threshold=0.01):
    """The released code's count, on torch's sample standard deviation."""
    scaled = (table - table.mean(0)) / table.std(0, ddof=1)
    four = np.array(quadruples(len(table)))
    distance = scaled[four[:, :2]].sum(axis=1) - scaled[four[:, 2:]].sum(axis=1)
    return ((distance**2).mean(axis=1) < threshold).sum() / len(four)


def noisy_line(noise, d=1, seed=0):
    rng = np.random.default_rng(seed)
    return np.arange(P)[:, None] * rng.normal(size=d) + noise * rng.normal(size=(P, d))


def test_ten_symbols_have_seventy_parallelograms_as_counted_by_the_code():
    assert len(P0) == len(quadruples(P)) == 70
    found = {frozenset({tuple(PAIRS[a]), tuple(PAIRS[b])}) for a, b in P0}
    assert found == {frozenset({(i, n), (j, m)}) for i, n, j, m in quadruples(P)}


def test_permutations_of_three_items_have_ninety():
    elements = list(permutations(range(3)))
    answers = [elements.index(tuple(b[i] for i in a)) for a in elements for b in elements]
    assert len(parallelograms(answers)) == 90


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 1.0, 5.0])
def test_rqi_is_that_of_the_released_code(noise, d):
    for seed in range(5):
        table = noisy_line(noise, d, seed)
        assert representation_quality_index(table, PAIRS, P0) == their_rqi(table)


def test_a_linear_representation_has_all_and_a_collapsed_one_none():
    line = 3 - 0.2 * np.arange(P)[:, None] * [1.0, 2.0]
    assert representation_quality_index(line, PAIRS, P0) == 1
    assert representation_quality_index(np.ones((P, 2)), PAIRS, P0) == 0
    assert representation_quality_index(7 + 100 * line, PAIRS, P0) == 1


def test_a_faithful_matrix_representation_has_all_of_the_group():
    elements = list(permutations(range(3)))
    table = np.array([np.eye(3)[list(e)].ravel() for e in elements])
    pairs = np.array([(a, b) for a in range(6) for b in range(6)])
    answers = [elements.index(tuple(b[i] for i in a)) for a in elements for b in elements]
    found = parallelograms(answers)
    orders = [
        representation_quality_index(order, pairs, found, combine="multiply", threshold=1e-9)
        for order in (table, table.reshape(6, 3, 3).swapaxes(1, 2).reshape(6, 9))
    ]
    assert max(orders) == 1
    wrong = np.random.default_rng(0).normal(size=(6, 9))
    assert representation_quality_index(wrong, pairs, found, combine="multiply") < 0.5


def rank_test(in_training):
    """The released code's induction, one rank at a time."""
    known = A[in_training]
    nullity = (np.linalg.eigvalsh(known.T @ known) < 1e-8).sum()

    def grown(row):
        more = np.vstack([known, row])
        return (np.linalg.eigvalsh(more.T @ more) < 1e-8).sum()

    return np.array([inside or grown(A[q]) == nullity for q, inside in enumerate(in_training)])


@pytest.mark.parametrize("n_train", [5, 15, 25, 35, 45])
def test_the_ideal_set_is_that_of_the_rank_test(n_train):
    for seed in range(4):
        rows = np.random.default_rng(seed).choice(len(PAIRS), n_train, replace=False)
        inside = within(P0, rows, len(PAIRS))
        np.testing.assert_array_equal(ideal(A, inside), rank_test(inside))


def test_predictions_follow_the_definition_sample_by_sample():
    rows = np.random.default_rng(1).choice(len(PAIRS), 20, replace=False)
    has = real(noisy_line(0.3), PAIRS, P0)
    assert 0 < has.mean() < 1
    kept = {frozenset({a, b}) for a, b in P0[has].tolist()}
    wanted = [s in rows or any(frozenset({s, t}) in kept for t in rows) for s in range(len(PAIRS))]
    np.testing.assert_array_equal(predicted_correct(P0, has, rows, len(PAIRS)), wanted)
    everything = predicted_correct(P0, np.ones(70, dtype=bool), rows, len(PAIRS))
    np.testing.assert_array_equal(everything, np.isin(SUMS, SUMS[rows]))


def test_a_full_table_leaves_shift_and_scale_and_the_critical_fraction_is_near_four_tenths():
    """Fig. 4a: P(n0 = 2) jumps around 0.4 of the 55 samples."""
    assert degrees_of_freedom(A) == 2
    shares = {}
    for n_train in (12, 16, 22, 28, 36):
        unique = 0
        for seed in range(60):
            rows = np.random.default_rng(seed).choice(len(PAIRS), n_train, replace=False)
            unique += degrees_of_freedom(A[within(P0, rows, len(PAIRS))]) == 2
        shares[n_train / 55] = unique / 60
    values = list(shares.values())
    assert values == sorted(values)
    assert values[0] < 0.05
    assert values[-1] > 0.95
    half = np.interp(0.5, values, list(shares))
    assert 0.33 < half < 0.5


def test_six_symbols_need_but_eight_of_their_21_samples():
    """Appendix C: 8 samples can force the linear structure."""
    pairs = np.array(list(combinations_with_replacement(range(6), 2)))
    found = parallelograms(pairs.sum(axis=1))
    matrix = equations(pairs, found, 6)
    chosen = [(0, 2), (1, 1), (1, 3), (2, 2), (2, 4), (3, 3), (3, 5), (4, 4)]
    rows = [pairs.tolist().index(list(pair)) for pair in chosen]
    assert degrees_of_freedom(matrix[within(found, rows, len(pairs))]) == 2


def test_the_effective_loss_is_zero_for_a_line_and_does_not_see_shift_or_scale():
    assert effective_loss(np.arange(P)[:, None], A) == pytest.approx(0, abs=1e-25)
    table = noisy_line(1.0)
    value = effective_loss(table, A)
    assert value > 1e-3
    assert effective_loss(5 - 3 * table, A) == pytest.approx(value)
    scaled = standardised(table)
    deviation = [
        (scaled[i] + scaled[n] - scaled[j] - scaled[m]) ** 2 for i, n, j, m in quadruples(P)
    ]
    assert value == pytest.approx(np.mean(deviation) / (P - 1))


def test_the_flow_is_the_released_integrator():
    e = standardised(noisy_line(2.0))[:, 0]
    z0, path = np.sum(e**2), [e]
    for _ in range(50):  # the code's lines
        l0 = np.sum(np.sum(A * e[np.newaxis, :], axis=1) ** 2)
        temp = np.sum(np.sum(A * e[np.newaxis, :], axis=1)[:, np.newaxis] * A, axis=0)
        e = e + 1e-3 * (2 * l0 / z0**2 * e - 2 / z0 * temp)
        path.append(e)
    ours = effective_flow(noisy_line(2.0), A, 1e-3, 50, normalise="sum")
    np.testing.assert_allclose(ours[..., 0], path, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("normalise", "step"), [("mean", 1e-2), ("sum", 2e-4)])
def test_the_flow_conserves_mean_and_size_and_ends_in_a_line(normalise, step):
    path = effective_flow(noisy_line(3.0, d=2), A, step, 20_000, normalise=normalise)
    np.testing.assert_allclose(path.sum(axis=1), 0, atol=1e-9)
    sizes = (path**2).sum(axis=(1, 2))
    np.testing.assert_allclose(sizes, sizes[0], rtol=2e-2)
    losses = [((A @ e) ** 2).sum() for e in path[::2000]]
    assert (np.diff(losses) < 1e-12).all()
    assert representation_quality_index(path[-1], PAIRS, P0) == 1


def test_the_slowest_mode_decays_at_the_third_rate():
    rates = grokking_rates(A, P - 1)
    assert rates[:2] == pytest.approx([0, 0], abs=1e-12)
    values, vectors = np.linalg.eigh(A.T @ A)
    line = standardised(np.arange(P)[:, None])
    step, steps = 1e-3, 400
    start = line + 1e-4 * vectors[:, 2:3]
    path = effective_flow(start, A, step, steps)
    amplitude = path[..., 0] @ vectors[:, 2]
    assert np.log(amplitude[0] / amplitude[-1]) / (step * steps) == pytest.approx(
        rates[2], rel=1e-3
    )
    assert predicted_steps(A, P - 1, step) == pytest.approx(1 / (rates[2] * step))
    assert values[2] > 1


def test_a_free_representation_never_forms():
    assert predicted_steps(A[:1], P - 1, 1e-3) == float("inf")


def test_entropy_counts_dimensions():
    assert embedding_entropy(np.arange(P)[:, None] * [1.0, -2.0]) == pytest.approx(0, abs=1e-12)
    angle = 2 * np.pi * np.arange(P) / P
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert np.exp(embedding_entropy(ring)) == pytest.approx(2)
    assert embedding_entropy(np.ones((P, 3))) == 0


@pytest.mark.refusal
def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="combine must be one of add, multiply"):
        real(noisy_line(1.0), PAIRS, P0, combine="concatenate")
    with pytest.raises(ValueError, match="normalise must be one of mean, sum"):
        grokking_rates(A, 9, normalise="max")
