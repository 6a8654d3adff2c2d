"""Functions of both inputs: the definition, regression on the waves, and nets known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grokscope.measures.fourier import (
    explained_variance,
    fourier_basis,
    fourier_norm_map,
    fourier_transform_2d,
    key_frequencies,
    neuron_frequencies,
)
from grokscope.nets import addition_net


def grid(p):
    a, b = np.divmod(np.arange(p * p), p)
    return a, b


def wave(p, k, n, phase=0.0):
    return np.cos(2 * np.pi * k * n / p + phase)


def noise(p, n, seed=0):
    return np.random.default_rng(seed).standard_normal((p * p, n))


def test_transform_is_the_sum_over_all_pairs():
    p, values, F = 5, noise(5, 2), fourier_basis(5).numpy()
    found = fourier_transform_2d(values)
    for i in range(p):
        for j in range(p):
            expected = sum(
                F[i, a] * F[j, b] * values[a * p + b] for a in range(p) for b in range(p)
            )
            np.testing.assert_allclose(found[i, j], expected, atol=1e-13)
    np.testing.assert_allclose(fourier_norm_map(values), np.linalg.norm(found, axis=-1))


def regressors(p, k, terms):
    a, b = grid(p)
    one, of = np.ones(p * p), lambda n: [wave(p, k, n), wave(p, k, n, np.pi / 2)]
    if terms == "sum":
        return np.stack([one, *of(a + b)], 1)
    quadratic = [x * y for x in of(a) for y in of(b)]
    linear = [*of(a), *of(b)] if terms == "degree_2" else []
    return np.stack([one, *quadratic, *linear], 1)


@pytest.mark.parametrize("terms", ["degree_2", "quadratic", "sum"])
def test_explained_variance_is_r_squared_of_a_regression_on_the_waves(terms):
    p, values = 7, noise(7, 4) ** 3 + 5
    found = explained_variance(values, terms=terms)
    total = ((values - values.mean(0)) ** 2).sum(0)
    for k in (1, 2, 3):
        X = regressors(p, k, terms)
        rest = values - X @ np.linalg.lstsq(X, values, rcond=None)[0]
        np.testing.assert_allclose(found[k - 1], 1 - (rest**2).sum(0) / total, rtol=1e-11)


def test_all_frequencies_explain_what_has_no_products_of_two():
    p = 9
    a, b = grid(p)
    values = np.stack([noise(p, 1)[:p, 0][a], noise(p, 1, 1)[:p, 0][(a + b) % p]], 1)
    np.testing.assert_allclose(explained_variance(values).sum(0), 1, rtol=1e-12)
    np.testing.assert_allclose(explained_variance(values, terms="sum").sum(0), [0, 1], atol=1e-12)


def test_pooled_is_the_mean_by_variance():
    values = noise(7, 5) * [1, 2, 3, 4, 0]
    each = explained_variance(values)[:, :4].numpy()
    expected = each @ values.var(0)[:4] / values.var(0).sum()
    np.testing.assert_allclose(explained_variance(values, pooled=True), expected, rtol=1e-12)


def test_scale_and_shift_do_not_matter():
    values = noise(7, 3)
    expected = explained_variance(values)
    np.testing.assert_allclose(explained_variance(1e-20 * values), expected, rtol=1e-10)
    np.testing.assert_allclose(explained_variance(values + 1e3), expected, rtol=1e-10)


def test_neurons_have_the_frequency_they_are_made_of_also_the_last():
    p = 11
    a, b = grid(p)
    values = np.stack([wave(p, k, a, 0.3) * wave(p, k, b) + wave(p, k, a) for k in (2, 5, 1)], 1)
    explained = explained_variance(values)
    np.testing.assert_allclose(explained.amax(0), 1, rtol=1e-12)
    assert neuron_frequencies(explained).tolist() == [2, 5, 1]
    assert key_frequencies(explained) == [1, 2, 5]


def test_dead_and_constant_neurons_have_no_frequency():
    values = noise(7, 4)
    values[:, 1], values[:, 2] = 0, 0.1
    explained = explained_variance(values)
    assert explained.isnan().all(0).tolist() == [False, True, True, False]
    frequencies = neuron_frequencies(explained)
    assert frequencies[1:3].tolist() == [0, 0]
    assert frequencies.dtype == torch.int64
    assert key_frequencies(explained) == sorted({int(frequencies[0]), int(frequencies[3])})
    assert key_frequencies(explained[:, 1:3]) == []
    assert explained_variance(np.zeros((9, 2)), pooled=True).isnan().all()


def test_stray_neurons_are_left_out_by_count_or_by_fit():
    explained = np.array([[0.9, 0.86, 0.2, 0.1], [0.0, 0.1, 0.6, 0.2], [0.1, 0.0, 0.2, 0.9]])
    assert key_frequencies(explained) == [1, 2, 3]
    assert key_frequencies(explained, minimum_count=2) == [1]
    assert key_frequencies(explained, minimum_explained=0.85) == [1, 3]
    assert key_frequencies(explained, minimum_explained=0.87, minimum_count=2) == []


def test_units_of_the_analytic_net_have_the_frequency_of_their_weights():
    """(cos A + cos B)^2 has variance 1 at the product's frequency, 1/4 at the double one."""
    p, net = 23, addition_net(23, 100)
    first = net.layers[0].weight.detach()
    a, b = (torch.tensor(n) for n in grid(p))
    hidden = (first[:, a] + first[:, p + b]).square().t()
    explained = explained_variance(hidden)
    expected = torch.fft.rfft(first[:, :p]).abs()[:, 1:].argmax(1) + 1
    moving = first[:, :p].sum(1).abs() < 1e-6  # a few units have frequency 0
    assert moving.sum() > 80
    assert torch.equal(neuron_frequencies(explained)[moving], expected[moving])
    np.testing.assert_allclose(explained.amax(0)[moving], 0.8, rtol=1e-7)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: explained_variance(noise(4, 2)), r"^modulus must be odd, got 4"),
        (
            lambda: explained_variance(np.ones((10, 2))),
            r"^values must be \(p\^2, n\), .*\(10, 2\)",
        ),
        (lambda: explained_variance(np.ones(9)), r"^values must be \(p\^2, n\), .*\(9,\)"),
        (lambda: fourier_transform_2d(np.ones((9, 0))), r"^values must be \(p\^2, n\)"),
        (
            lambda: explained_variance(noise(3, 1), terms="cubic"),
            r"^terms must be one of degree_2",
        ),
        (lambda: neuron_frequencies(np.ones(3)), r"^explained must be \(\(p - 1\) / 2, n\)"),
        (lambda: key_frequencies(np.ones((3, 0))), r"^explained must be \(\(p - 1\) / 2, n\)"),
        (
            lambda: key_frequencies(np.ones((3, 2)), minimum_count=0),
            r"^minimum_count must be an integer >= 1",
        ),
        (
            lambda: key_frequencies(np.ones((3, 2)), minimum_explained=85),
            r"^minimum_explained must be a number >= 0 and <= 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
