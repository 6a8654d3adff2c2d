"""Kernels, gradients, AGOPs and structure measures of recursive feature machines."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from grokscope.measures.feature_ansatz import circulant_deviation
from grokscope.measures.input_gop import input_gop
from grokscope.measures.rfm import (
    agop_alignment,
    discrete_log_order,
    feature_block,
    feature_deviation,
    gaussian_agop,
    gaussian_jacobians,
    gaussian_kernel,
    quadratic_agop,
    quadratic_jacobians,
    quadratic_kernel,
    reordered,
    two_layer_agop,
)

KERNELS = {
    "quadratic": (quadratic_kernel, quadratic_jacobians, quadratic_agop),
    "gaussian": (gaussian_kernel, gaussian_jacobians, gaussian_agop),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def psd(d: int) -> Tensor:
    root = randn(d, d, seed=5)
    return root @ root.T / d


def test_kernels_are_their_formulas() -> None:
    x, z, m = randn(4, 3), randn(5, 3, seed=1), psd(3)
    for i in range(4):
        for j in range(5):
            product, difference = x[i] @ m @ z[j], x[i] - z[j]
            expected = math.exp(-float(difference @ m @ difference) / (2 * 1.5**2))
            assert quadratic_kernel(x, z, m)[i, j] == pytest.approx(float(product) ** 2)
            assert gaussian_kernel(x, z, m, 1.5)[i, j] == pytest.approx(expected)


@pytest.mark.parametrize("name", KERNELS)
def test_jacobians_agree_with_autograd(name: str) -> None:
    kernel, jacobians, _ = KERNELS[name]
    x, z, m, alpha = randn(4, 3), randn(6, 3, seed=1), psd(3), randn(6, 2, seed=2)
    found = jacobians(x, z, m, alpha)
    for i in range(4):
        expected = torch.autograd.functional.jacobian(
            lambda v: (kernel(v[None], z, m) @ alpha)[0], x[i]
        )
        torch.testing.assert_close(found[i], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_the_agop_is_that_of_autograd(name: str, centered: bool) -> None:
    kernel, _, agop = KERNELS[name]
    x, m, alpha = randn(20, 5), psd(5), randn(20, 3, seed=2)
    expected = input_gop(lambda v: kernel(v, x, m) @ alpha, x, centered=centered).dense()
    found = agop(x, m, alpha, centered=centered)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(expected.norm()))


def test_the_gaussian_agop_does_not_depend_on_its_parts() -> None:
    x, m, alpha = randn(20, 5), psd(5), randn(20, 3, seed=2)
    whole = gaussian_agop(x, m, alpha)
    torch.testing.assert_close(gaussian_agop(x, m, alpha, chunk_size=7), whole, rtol=1e-12, atol=0)


def test_the_agop_of_two_layers_is_that_of_autograd() -> None:
    first, second, x = randn(7, 4), randn(3, 7, seed=1), randn(9, 4, seed=2)
    found = two_layer_agop(first, second, 2 * x @ first.T)
    expected = input_gop(lambda v: (v @ first.T).square() @ second.T, x).dense()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("modulus", [2, 3, 7, 31, 61])
def test_in_the_order_of_discrete_logarithms_products_are_sums(modulus: int) -> None:
    order = discrete_log_order(modulus)
    assert sorted(order) == list(range(modulus))
    ratios = {b * pow(a, -1, modulus) % modulus for a, b in pairwise(order[1:])}
    assert len(ratios) <= 1
    table = torch.tensor([[a * b % modulus for b in range(modulus)] for a in range(modulus)])
    products = reordered(table)[1:, 1:]
    index = torch.arange(modulus - 1)
    expected = torch.tensor(order[1:])[(index[:, None] + index) % (modulus - 1)]
    assert torch.equal(products, expected)


def with_block(block: Tensor) -> Tensor:
    p = len(block)
    features = torch.eye(2 * p, dtype=torch.float64)
    features[p:, :p], features[:p, p:] = block, block.T
    return features


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_each_operation_has_its_own_structure(operation: str) -> None:
    """The class c of x ∘ y = c has the block of shifts, C = sum_c w_c P_c."""
    p, values = 7, randn(7)
    index = torch.arange(p)
    if operation in ("add", "subtract"):
        sign = -1 if operation == "add" else 1
        block = values[(index[:, None] + sign * index) % p]
    else:
        sign = -1 if operation == "multiply" else 1
        place = torch.tensor(discrete_log_order(p)).argsort() - 1  # of 1, ..., p - 1
        block = values[: p - 1][(place[:, None] + sign * place) % (p - 1)]
        block[0], block[:, 0] = 0, 0
    assert feature_deviation(with_block(block), operation) == pytest.approx(0, abs=1e-25)
    others = {"add", "subtract", "multiply", "divide"} - {operation}
    assert min(feature_deviation(with_block(block), other) for other in others) > 0.3


def test_both_conventions_of_the_deviation() -> None:
    block = randn(31, 31)
    features = with_block(block)
    assert torch.equal(feature_block(features), block)
    total = feature_deviation(features, "add")
    assert total == circulant_deviation(block)
    assert total == pytest.approx(1 - 1 / 31, abs=0.02)
    mean = feature_deviation(features, "add", "mean")
    assert mean == pytest.approx(total / 31)
    assert mean == pytest.approx(1 / 31, abs=0.002)  # where the paper's curves begin, for p = 31


def test_identity_features_have_no_deviation() -> None:
    assert math.isnan(feature_deviation(torch.eye(10), "add"))


def test_alignment_is_with_the_last_matrix() -> None:
    matrices = torch.stack([psd(4), torch.eye(4, dtype=torch.float64), psd(4) * 3])
    first, second, last = agop_alignment(matrices)
    assert (first, last) == pytest.approx((1, 1))
    assert second == pytest.approx(float(psd(4).trace() / (2 * psd(4).norm())))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: feature_block(torch.ones(3, 3)), r"features must be \(2p, 2p\), got .*3, 3"),
        (lambda: feature_deviation(torch.eye(4), "power"), "operation must be one of add, subtr"),
        (lambda: feature_deviation(torch.eye(4), "add", "max"), "convention must be one of sum"),
        (lambda: discrete_log_order(9), "modulus must be a prime, got 9"),
        (
            lambda: gaussian_agop(randn(3, 2), psd(2), randn(3, 1), chunk_size=0),
            "chunk_size must be an integer",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
