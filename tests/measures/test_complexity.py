"""Complexity: closed forms, invariants, and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from grokscope.measures.complexity import (
    LOG_EPSILON,
    absolute_weight_entropy,
    activation_sparsity,
    linf_norm,
    local_circuit_complexity,
    similarity,
)
from grokscope.measures.weights import normalize_scale, remove_bias

P = 7


@pytest.fixture
def pair(generator):
    """First layer, bias and last layer of a ReLU net on pairs."""
    shapes = ((20, 2 * P), (20,), (P, 20))
    return [torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes]


def test_sparsity_is_the_share_below_the_threshold():
    activations = torch.tensor([[0.0, 0.05, 0.1], [2.0, 0.0, 0.3]])
    assert activation_sparsity(activations) == pytest.approx(3 / 6)
    assert activation_sparsity(activations, threshold=1.0) == pytest.approx(5 / 6)


@pytest.mark.parametrize("a", [0.03, 0.5, 2.0])
def test_entropy_of_uniform_weights_has_its_closed_form(a, generator):
    weight = (2 * torch.rand(1000, 800, dtype=torch.float64, generator=generator) - 1) * a
    expected = 1000 * 800 * (a / 4 - a / 2 * math.log(a))
    assert absolute_weight_entropy(weight).item() == pytest.approx(expected, rel=5e-3)


def test_entropy_of_few_weights_is_the_sum_and_zeros_count_nothing():
    weight = torch.tensor([[0.0, -0.5], [1.0, 0.25]])
    expected = 0.5 * math.log(2) + 0.25 * math.log(4)
    assert absolute_weight_entropy(weight).item() == pytest.approx(expected)
    assert absolute_weight_entropy(torch.zeros(3)).item() == 0
    with_code = absolute_weight_entropy(weight, epsilon=LOG_EPSILON).item()
    assert with_code == pytest.approx(expected, abs=1e-8)
    assert with_code != expected


def circuit(first, bias, last, inputs):
    def forward(weights):
        return torch.relu(inputs @ weights[0].T + bias) @ weights[1].T

    return forward


@pytest.mark.parametrize("mask", ["exact", "bernoulli"])
def test_circuit_complexity_is_a_sum_of_divergences_and_leaves_weights_alone(pair, mask):
    first, bias, last = pair
    inputs = torch.eye(2 * P, dtype=torch.float64)[:9]
    before = first.clone()
    forward = circuit(first, bias, last, inputs)
    seen = []

    def spying(weights):
        seen.append([w.clone() for w in weights])
        return forward(weights)

    found = local_circuit_complexity(spying, [first, last], fraction=0.3, mask=mask)
    full, cut = (forward(weights).softmax(-1).numpy() for weights in seen)
    expected = (full * np.log(full / cut)).sum()
    assert found.item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(first, before)
    zeros = [int((w == 0).sum()) for w in seen[1]]
    expected = [round(0.3 * first.numel()), round(0.3 * last.numel())]
    assert zeros == (expected if mask == "exact" else pytest.approx(expected, rel=0.3))


def test_circuit_complexity_is_zero_without_a_cut_and_repeats(pair):
    first, bias, last = pair
    forward = circuit(first, bias, last, torch.eye(2 * P, dtype=torch.float64))
    assert local_circuit_complexity(forward, [first, last], fraction=0).item() == 0
    values = [local_circuit_complexity(forward, [first, last], seed=s).item() for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert min(values) > 0


def test_linf_norm_is_the_largest_path_and_invariant(pair):
    first, bias, last = pair
    expected = max(
        abs(last[q, i]) * max(abs(first[i, j] + bias[i] / 2) for j in range(2 * P))
        for q in range(P)
        for i in range(20)
    )
    assert linf_norm(first, last, bias).item() == pytest.approx(float(expected))
    for norm in ("max", "l1", "l2"):
        for of in ("first", "last"):
            moved = normalize_scale(first, last, bias, norm=norm, of=of)
            assert linf_norm(*moved).item() == pytest.approx(float(expected), rel=1e-12)
    without = linf_norm(remove_bias(first, bias), last)
    assert without.item() == pytest.approx(float(expected))


def hidden(first, bias):
    weight = first + bias[:, None] / 2
    weight = weight / weight.abs().sum(1, keepdim=True)
    a, b = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
    return torch.relu(weight[:, a] + weight[:, P + b]), (a + b) % P


def test_similarity_is_the_mean_distance_within_classes(pair):
    first, bias, _ = pair
    h, sums = hidden(first, bias)
    distances = []
    for s in range(P):
        members = h[:, sums == s]
        distances += [
            (members[:, i] - members[:, j]).abs().sum() for i in range(P) for j in range(i)
        ]
    found = similarity(first, bias)
    assert found.item() == pytest.approx(float(torch.stack(distances).mean()), rel=1e-12)


def test_similarity_of_the_code_is_between_hidden_units(pair):
    first, bias, _ = pair
    h, sums = hidden(first, bias)
    total = 0.0
    for s in range(P):
        members = h[:, sums == s]
        total += sum((members[i] - members[j]).abs().sum() for i in range(P) for j in range(i))
    found = similarity(first, bias, between="units")
    assert found.item() == pytest.approx(float(total) / P**3, rel=1e-12)


def test_similarity_is_zero_where_only_the_sum_is_seen():
    a = torch.arange(P, dtype=torch.float64)
    same = torch.ones(3, 2 * P, dtype=torch.float64)
    assert similarity(same).item() == 0
    linear = torch.cat([a, a])[None]  # sees a + b, not its remainder
    assert similarity(linear).item() > 0


def test_similarity_is_invariant_under_the_symmetries(pair, generator):
    first, bias, last = pair
    expected = similarity(first, bias).item()
    scaled, _, scaled_bias = normalize_scale(first, last, bias, norm="l2")
    assert similarity(scaled, scaled_bias).item() == pytest.approx(expected)
    order = torch.randperm(20, generator=generator)
    assert similarity(first[order], bias[order]).item() == pytest.approx(expected)
    swapped = torch.cat([first[:, P:], first[:, :P]], 1)
    assert similarity(swapped, bias).item() == pytest.approx(expected)
    relabelled = torch.cat([first[:, :P].roll(2, 1), first[:, P:].roll(-2, 1)], 1)
    assert similarity(relabelled, bias).item() == pytest.approx(expected)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: absolute_weight_entropy(torch.ones(2), epsilon=-1), "epsilon must be"),
        (lambda: local_circuit_complexity(nn.Identity(), [], fraction=2), "fraction must be"),
        (lambda: local_circuit_complexity(nn.Identity(), [], mask="all"), "mask must be"),
        (lambda: similarity(torch.ones(3, 5)), r"first must be \(h, 2p\)"),
        (lambda: similarity(torch.ones(3, 8), between="units"), r"first must be \(h, 2p\)"),
        (lambda: similarity(torch.ones(3, 8), between="rows"), "between must be one of"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match="^" + match):
        call()
