from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import circulant, sqrtm
from torch import Tensor

from grokscope.measures.feature_ansatz import (
    circulant_deviation,
    feature_ansatz,
    matrix_cosine,
    psd_power,
)
from grokscope.measures.input_gop import input_gop
from grokscope.measures.layer_gop import layer_input_gops
from grokscope.nets import MLP

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gram(*shape: int, seed: int = 0) -> Tensor:
    a = randn(*shape, seed=seed)
    return a.T @ a


def test_a_linear_map_fulfils_the_ansatz_with_power_one() -> None:
    weight = randn(4, 9)
    gop = input_gop(lambda x: x @ weight.T, randn(20, 9, seed=1))
    assert feature_ansatz(weight, gop, 1.0) == pytest.approx(1.0, abs=1e-14)
    assert feature_ansatz(weight, gop, 0.5) < 0.99
    assert feature_ansatz(3 * weight, gop.dense(), 1.0) == pytest.approx(1.0, abs=1e-14)


def test_a_linear_chain_of_equal_layers_fulfils_it_with_its_own_power() -> None:
    r"""For f = W W x with symmetric W, G = W^4 and W^T W = W^2 = G^(1/2)."""
    weight = gram(6, 6)
    gop = input_gop(lambda x: x @ weight @ weight, randn(5, 6, seed=1))
    assert feature_ansatz(weight, gop, 0.5) == pytest.approx(1.0, abs=1e-12)
    assert feature_ansatz(weight, gop, 1.0) < 0.999


def test_orthogonal_features_have_nothing_in_common() -> None:
    agop = torch.diag(torch.tensor([1.0, 0.0, 0.0]))
    assert feature_ansatz(torch.tensor([[0.0, 2.0, 1.0]]), agop, 0.5) == 0.0


def test_each_layer_of_a_net_can_be_compared() -> None:
    net, x = MLP((6, 9, 4), "quadratic", seed=0).double(), randn(30, 6)
    for layer, gop in zip(net.layers, layer_input_gops(net, x).values(), strict=True):
        w, g = layer.weight.detach().numpy(), gop.dense().numpy()
        p, q = w.T @ w, np.real(sqrtm(g))
        expected = (p * q).sum() / np.linalg.norm(p) / np.linalg.norm(q)
        assert feature_ansatz(layer.weight, gop, 0.5) == pytest.approx(expected, rel=1e-6)
    assert feature_ansatz(net.layers[1].weight, gop, 1.0) == pytest.approx(1.0, abs=1e-14)


def test_pearson_is_the_correlation_of_all_entries() -> None:
    weight, agop = randn(5, 4), gram(7, 4, seed=1)
    p, q = (weight.T @ weight).numpy(), np.real(sqrtm(agop.numpy()))
    expected = np.corrcoef(p.flatten(), q.flatten())[0, 1]
    assert feature_ansatz(weight, agop, similarity="pearson") == pytest.approx(expected)
    p, q = (m - np.diag(np.diag(m)) for m in (p, q))
    expected = np.corrcoef(p.flatten(), q.flatten())[0, 1]
    found = feature_ansatz(weight, agop, similarity="pearson_off_diagonal")
    assert found == pytest.approx(expected)


@given(d=st.integers(1, 7), o=st.integers(1, 7), power=st.sampled_from([0.25, 0.5, 1.0, 2.0]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_cosine_lies_between_zero_and_one(d: int, o: int, power: float) -> None:
    found = feature_ansatz(randn(o, d, seed=o), gram(3, d, seed=d), power)
    assert -1e-12 <= found <= 1 + 1e-12


def test_zero_matrices_have_no_angle() -> None:
    assert math.isnan(feature_ansatz(torch.zeros(2, 3), torch.eye(3)))
    assert math.isnan(feature_ansatz(torch.ones(2, 3), torch.zeros(3, 3)))
    assert math.isnan(feature_ansatz(torch.ones(2, 3), torch.full((3, 3), torch.nan)))
    assert math.isnan(matrix_cosine(torch.zeros(2, 2), torch.eye(2)))


@pytest.mark.parametrize("rank", [2, 5])
def test_powers_multiply(rank: int) -> None:
    matrix = gram(rank, 5)
    root = psd_power(matrix, 0.5)
    torch.testing.assert_close(root @ root, matrix, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(psd_power(matrix, 2.0), matrix @ matrix, rtol=1e-10, atol=1e-10)
    assert torch.equal(psd_power(matrix, 1.0), matrix)
    assert torch.linalg.matrix_rank(root, hermitian=True) == rank


def test_matrix_cosine_is_that_of_the_entries() -> None:
    a, b = randn(3, 4), randn(3, 4, seed=1)
    expected = torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    assert matrix_cosine(a, b) == pytest.approx(float(expected))
    assert matrix_cosine(a, -a) == pytest.approx(-1.0)


@pytest.mark.parametrize("p", [1, 2, 7, 12])
def test_wrapped_diagonals_are_told_from_antidiagonals(p: int) -> None:
    row = np.random.default_rng(0).normal(size=p)
    matrix = torch.tensor(circulant(row))
    hankel = torch.rot90(matrix)  # as the released code makes it
    assert circulant_deviation(matrix) == pytest.approx(0, abs=1e-28)
    assert circulant_deviation(hankel, hankel=True) == pytest.approx(0, abs=1e-28)
    if p > 2:
        assert circulant_deviation(matrix, hankel=True) > 0.5
        assert circulant_deviation(hankel) > 0.5
    assert circulant_deviation(torch.ones(p, p)) == 0


@pytest.mark.parametrize("hankel", [False, True])
def test_the_deviation_is_the_sum_over_wrapped_diagonals(hankel: bool) -> None:
    a, p = randn(5, 5).numpy(), 5
    total = 0.0
    for k in range(p):
        entries = [
            a[i, j] for i in range(p) for j in range(p) if (i + j if hankel else i - j) % p == k
        ]
        total += sum((x - np.mean(entries)) ** 2 for x in entries)
    expected = total / (a**2).sum()
    assert circulant_deviation(torch.tensor(a), hankel=hankel) == pytest.approx(expected)


def test_random_entries_deviate_by_all_but_one_part_in_p() -> None:
    deviations = [circulant_deviation(randn(31, 31, seed=s)) for s in range(50)]
    assert np.mean(deviations) == pytest.approx(1 - 1 / 31, abs=0.003)


def test_a_zero_block_has_no_deviation() -> None:
    assert math.isnan(circulant_deviation(torch.zeros(3, 3)))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.ones(3)}, r"weight must be a matrix \(o, d\), got shape \(3,\)"),
        ({"weight": torch.ones(3, 2)}, "agop must be d x d for d = 2 columns of weight, got 3"),
        ({"agop": torch.ones(3, 2)}, r"agop must be a square matrix, got shape \(3, 2\)"),
        ({"power": 0}, "power must be a number > 0, got 0"),
        ({"similarity": "cos"}, "similarity must be one of cosine, pearson, pearson_off_diag"),
    ],
)
def test_wrong_arguments_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feature_ansatz(**({"weight": torch.ones(2, 3), "agop": torch.eye(3)} | change))


@pytest.mark.refusal
def test_a_block_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match=r"block must be square, got shape \(2, 3\)"):
        circulant_deviation(torch.ones(2, 3))
