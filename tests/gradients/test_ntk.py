from __future__ import annotations

import pytest
import torch
from gradients.zoo import CASES, Problem, assert_near, explicit_jacobian
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from grokscope.gradients import empirical_ntk

FLAT = [  # nets with outputs (n, c)
    *("mlp", "mlp without bias", "linear estimator", "features first", "embedding with padding"),
    *("transformer of grokscope", "class token", "BatchNorm in evaluation", "small CNN"),
    *("Conv2d, all at once", "convolution called at two sizes", "a layer called twice", "LSTM"),
    *("autoencoder, tied, raw", "GRUCell", "a weight and its square", "bilinear", "weight norm"),
    *("frozen parts", "a parameter that is never used", "temperature", "in-place ReLU"),
    *("samples sorted by route", "tuple inputs with a mask", "a loop over the samples"),
]


def kernels(problem: Problem) -> tuple[Tensor, int]:
    """The full kernel from a Jacobian formed row by row, and the outputs a sample."""
    n = len(problem.targets)
    J = explicit_jacobian(problem.net, problem.inputs, n)
    return J @ J.T, len(J) // n


def trace_over_outputs(full: Tensor, c: int) -> Tensor:
    return full.unflatten(1, (-1, c)).unflatten(0, (-1, c)).diagonal(dim1=1, dim2=3).sum(-1)


@pytest.mark.parametrize("name", FLAT)
def test_kernels_equal_those_of_explicit_jacobians(name: str) -> None:
    problem = CASES[name].build()
    full, c = kernels(problem)
    assert_near(empirical_ntk(problem.net, problem.inputs, "full"), full)
    trace = empirical_ntk(problem.net, problem.inputs)
    assert trace.dtype == torch.float64
    assert_near(trace, trace_over_outputs(full, c))


def test_the_full_kernel_is_sample_major_as_jacrev_has_it() -> None:
    net, _, inputs, _ = CASES["mlp"].build()
    parameters = dict(net.named_parameters())
    jacobians = jacrev(lambda p: functional_call(net, p, (inputs,)))(parameters)
    J = torch.cat([j.flatten(2) for j in jacobians.values()], 2)
    wanted = torch.einsum("icm,jdm->icjd", J, J).detach()
    assert_near(empirical_ntk(net, inputs, outputs="full").view(5, 3, 5, 3), wanted)
    assert_near(empirical_ntk(net, inputs, outputs="trace"), torch.einsum("icjc->ij", wanted))


def test_the_kernel_of_a_linear_map_is_that_of_its_inputs() -> None:
    net, x = nn.Linear(4, 3).double(), torch.randn(6, 4, dtype=torch.float64)
    wanted = x @ x.T + 1
    assert_near(empirical_ntk(net, x), 3 * wanted)
    assert_near(empirical_ntk(net, x, "full"), torch.kron(wanted, torch.eye(3).double()))


@pytest.mark.parametrize("name", ["one output without an axis", "linear over positions"])
def test_outputs_of_any_shape_count_entry_by_entry(name: str) -> None:
    problem = CASES[name].build()
    full, c = kernels(problem)
    assert_near(empirical_ntk(problem.net, problem.inputs, "full"), full)
    assert_near(empirical_ntk(problem.net, problem.inputs), trace_over_outputs(full, c))


def test_tiny_chunks_change_nothing() -> None:
    problem = CASES["small CNN"].build(12)
    full, c = kernels(problem)
    trace = empirical_ntk(problem.net, problem.inputs, max_bytes=20_000)
    assert_near(trace, trace_over_outputs(full, c))
    assert_near(empirical_ntk(problem.net, problem.inputs, "full", max_bytes=20_000), full)


def test_the_net_is_as_before() -> None:
    net, _, inputs, _ = CASES["BatchNorm in evaluation"].build()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        empirical_ntk(net, inputs)
        empirical_ntk(net, inputs, "full")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.refusal
def test_an_unknown_kind_of_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outputs.*diagonal"):
        empirical_ntk(nn.Linear(2, 2), torch.ones(3, 2), "diagonal")


@pytest.mark.refusal
def test_a_net_that_mixes_samples_is_refused_by_name() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    net = nn.Sequential()
    net.add_module("centre", Mean())
    net.add_module("out", nn.Linear(2, 2))
    with pytest.raises(ValueError, match="centre"):
        empirical_ntk(net.double(), torch.randn(4, 2).double())
