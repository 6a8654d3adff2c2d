"""Nets that are written down: they know their tables without training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from grokscope.measures.fourier import neuron_periodicity
from grokscope.nets import PolynomialExperts, addition_net, multiplication_net


def table(modulus: int, variables: int, n: int | None = None):
    """All tuples, or n random ones: values (n, S) and one-hot inputs."""
    grid = torch.cartesian_prod(*[torch.arange(modulus)] * variables)
    if n is not None:
        generator = torch.Generator().manual_seed(0)
        grid = torch.randint(modulus, (n, variables), generator=generator)
    return grid, F.one_hot(grid, modulus).flatten(1).double()


def power(base, exponent, modulus):
    return torch.tensor([pow(int(b), exponent, modulus) for b in base])


@torch.no_grad()
def score(net, inputs, targets, modulus):
    outputs = net(inputs)
    error = F.mse_loss(outputs, F.one_hot(targets, modulus).double())
    return (outputs.argmax(1) == targets).double().mean().item(), error.item()


@pytest.mark.parametrize(
    ("modulus", "n_hidden", "terms", "accuracy", "error"),
    [
        (97, 200, 2, 1, 2.1e-2),
        (97, 500, 2, 1, 8.1e-3),
        (97, 2000, 2, 1, 2.1e-3),
        (23, 500, 3, 0.98, 4.5e-2),
        (23, 2000, 3, 1, 1.2e-2),
        (11, 5000, 4, 0.998, 3.5e-2),
    ],
)
def test_addition_is_known_at_the_sizes_of_the_reference(
    modulus, n_hidden, terms, accuracy, error
):
    values, inputs = table(modulus, terms, 2000)
    found = score(
        addition_net(modulus, n_hidden, [1] * terms), inputs, values.sum(1) % modulus, modulus
    )
    assert found[0] >= accuracy
    assert found[1] == pytest.approx(error, rel=0.25)


def test_the_right_logit_is_one():
    """With the exponent +1/3; the printed -1/3 would make it (N/2)^2."""
    values, inputs = table(97, 2)
    with torch.no_grad():
        logits = addition_net(97, 970)(inputs).gather(1, (values.sum(1) % 97)[:, None])
    assert logits.mean().item() == pytest.approx(1, abs=0.02)


def test_addition_takes_coefficients():
    values, inputs = table(31, 2)
    net = addition_net(31, 620, (3, -2), seed=1)
    targets = (3 * values[:, 0] - 2 * values[:, 1]) % 31
    assert score(net, inputs, targets, 31)[0] == 1


def test_multiplication_is_known_zero_included():
    values, inputs = table(23, 2)
    for exponents in [(1, 1), (4, 1), (0, 3), (2, 0)]:
        a, b = (power(v, e, 23) for v, e in zip(values.T, exponents, strict=True))
        assert score(multiplication_net(23, 500, exponents), inputs, a * b % 23, 23)[0] == 1


TERMS = [(2, 4, 1), (1, 2, 2), (3, 1, 3)]


@pytest.mark.parametrize("modulus", [23, 97])
def test_experts_know_a_polynomial_of_three_terms(modulus):
    """The paper's accuracy is 100 %; its errors are 7.7e-3 (97) and 1.0e-2 (23), ours 1.2e-2."""
    values, inputs = table(modulus, 2, 2000)
    a, b = values.T
    terms = (c * power(a, e, modulus) * power(b, f, modulus) for c, e, f in TERMS)
    accuracy, error = score(
        PolynomialExperts(modulus, TERMS), inputs, sum(terms) % modulus, modulus
    )
    assert accuracy == 1
    assert error < 1.5e-2


def test_analytic_units_are_single_waves():
    net = addition_net(97, 200)
    first, last = (layer.weight for layer in net.layers)
    assert neuron_periodicity(first, last).min().item() == pytest.approx(1, abs=1e-9)


def test_the_same_seed_gives_the_same_net_and_touches_no_global_numbers():
    before = torch.get_rng_state()
    one, two, other = addition_net(7, 30), addition_net(7, 30), addition_net(7, 30, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.layers[0].weight, two.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: addition_net(7, 30, [1]), "coefficients must be 2, 3 or 4"),
        (lambda: multiplication_net(9, 30), "modulus must be a prime"),
        (lambda: multiplication_net(7, 30, (0, 0)), "exponents must not both be 0"),
        (lambda: multiplication_net(7, 30, (-1, 1)), r"exponents\[0\] must be an integer >= 0"),
        (lambda: multiplication_net(7, 1), "n_hidden must be an integer >= 2"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match="^" + match):
        call()
