"""The largest Hessian eigenvalue beside the dense Hessian, closed forms and its error."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.measures.hessian import top_eigenvalue, top_hessian_eigenvalue


def quadratic(matrix):
    x = torch.zeros(len(matrix), dtype=torch.float64, requires_grad=True)
    return x @ matrix @ x / 2 + x.sum(), x


def random_symmetric(n, seed=0):
    matrix = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix + matrix.t()


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_quadratic_has_the_largest_eigenvalue_of_its_matrix(n):
    matrix = random_symmetric(n)
    loss, x = quadratic(matrix)
    found = top_hessian_eigenvalue(loss, [x], tolerance=1e-10)
    expected = torch.linalg.eigvalsh(matrix)[-1]
    assert found.value == pytest.approx(float(expected), rel=1e-8)
    assert found.vector.norm() == pytest.approx(1)
    direct = (matrix @ found.vector - found.value * found.vector).norm()
    assert float(direct) < 1e-8


def test_it_is_the_most_positive_not_the_largest_in_size():
    loss, x = quadratic(torch.diag(torch.tensor([-9.0, 1.0, 2.0], dtype=torch.float64)))
    assert top_hessian_eigenvalue(loss, [x], tolerance=1e-9).value == pytest.approx(2)


def test_a_net_agrees_with_its_dense_hessian():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randint(2, (20,))
    weights = list(net.parameters())

    def loss_at(flat):
        parts = flat.split([w.numel() for w in weights])
        named = {
            name: part.view_as(w)
            for (name, w), part in zip(net.named_parameters(), parts, strict=True)
        }
        return F.cross_entropy(torch.func.functional_call(net, named, (x,)), y)

    dense = torch.autograd.functional.hessian(
        loss_at, torch.cat([w.detach().flatten() for w in weights])
    )
    found = top_hessian_eigenvalue(F.cross_entropy(net(x), y), weights, tolerance=1e-9)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-7)


def test_the_residual_bounds_the_error_and_the_value_comes_from_below():
    matrix = random_symmetric(200, 1)
    exact = torch.linalg.eigvalsh(matrix)
    start = torch.ones(200, dtype=torch.float64)
    for iterations in (3, 10, 30):
        found = top_eigenvalue(lambda v: matrix @ v, start, iterations=iterations, tolerance=1e-9)
        assert found.products == iterations
        assert float((exact - found.value).abs().min()) <= found.residual + 1e-9
        assert found.value <= float(exact[-1]) + 1e-9


def test_the_vector_of_an_earlier_epoch_saves_products():
    matrix = random_symmetric(200, 2)
    cold = top_eigenvalue(lambda v: matrix @ v, torch.ones(200, dtype=torch.float64))
    moved = matrix + 1e-3 * random_symmetric(200, 3)
    warm = top_eigenvalue(lambda v: moved @ v, cold.vector)
    assert warm.products < cold.products / 2
    assert warm.value == pytest.approx(float(torch.linalg.eigvalsh(moved)[-1]), rel=1e-3)


def test_an_invariant_start_ends_at_once_and_a_flat_loss_has_none():
    loss, x = quadratic(torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)))
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert top_hessian_eigenvalue(loss, [x], start=first).products == 1
    other = torch.zeros(2, requires_grad=True, dtype=torch.float64)
    found = top_hessian_eigenvalue(x.sum(), [x, other])
    assert (found.value, found.residual) == (0, 0)


@pytest.mark.refusal
def test_a_start_of_zero_or_another_shape_is_refused():
    loss, x = quadratic(torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"start must be \(m,\) and not zero, got shape \(2,\)"):
        top_hessian_eigenvalue(loss, [x], start=torch.zeros(2))
    with pytest.raises(ValueError, match="tolerance must be"):
        top_hessian_eigenvalue(loss, [x], tolerance=0.0)
