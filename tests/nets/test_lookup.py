import pytest
import torch

from grokscope.nets import Lookup

ROWS = torch.tensor([[0, 4], [2, 4], [2, 2], [4, 0]])  # rows 1 and 3 are used by nobody


def plain(table, weights):
    return (table[ROWS] * weights[..., None]).sum(1)


def test_sum_and_its_gradients_equal_plain_indexing(generator):
    table = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.randn(4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    sums = Lookup.of(ROWS, 5).sum(table, weights)
    torch.testing.assert_close(sums, plain(table, weights))
    for got, expected in zip(
        torch.autograd.grad(sums.sin().sum(), (table, weights)),
        torch.autograd.grad(plain(table, weights).sin().sum(), (table, weights)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_sum_without_weights_counts_each_row_once():
    table = torch.eye(5, dtype=torch.float64, requires_grad=True)
    sums = Lookup.of(ROWS, 5).sum(table)
    assert sums[2].tolist() == [0, 0, 2, 0, 0]
    sums.sum().backward()
    assert table.grad[:, 0].tolist() == [2, 0, 3, 0, 3]


def test_sum_passes_the_numerical_gradient_check():
    table = torch.linspace(-1, 1, 10, dtype=torch.float64).view(5, 2).requires_grad_()
    weights = torch.linspace(2, -1, 8, dtype=torch.float64).view(4, 2).requires_grad_()
    assert torch.autograd.gradcheck(Lookup.of(ROWS, 5).sum, (table, weights))


def test_callers_may_write_into_the_sum():
    table = torch.ones(5, 2, requires_grad=True)
    Lookup.of(ROWS, 5).sum(table).add_(-3).relu_().sum().backward()
    assert not table.grad.any()


def test_sum_needs_no_gradient():
    assert not Lookup.of(ROWS, 5).sum(torch.ones(5, 2)).requires_grad


@pytest.mark.refusal
def test_second_derivatives_are_refused():
    table = torch.ones(5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        Lookup.of(ROWS, 5).sum(table).square().sum(), table, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
