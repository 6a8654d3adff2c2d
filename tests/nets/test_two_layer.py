from __future__ import annotations

import pytest
import torch

from grokscope.measures.input_gop import input_gop
from grokscope.nets import MLP
from grokscope.nets.two_layer import TwoLayerMLP


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["quadratic", "relu", "tanh"])
def test_the_squared_jacobian_is_the_trace_of_the_agop(activation: str, bias: bool) -> None:
    net = TwoLayerMLP([5, 9, 3], activation, bias, seed=0).double()
    x = torch.randn(11, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = net.squared_jacobian(x)
    assert float(found.detach()) == pytest.approx(
        float(input_gop(net, x).dense().trace()), rel=1e-12
    )
    assert torch.autograd.gradcheck(lambda w: trace_at(net, w, x), (net.layers[0].weight,))


def trace_at(net: TwoLayerMLP, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    name = "layers.0.weight"
    return torch.func.functional_call(Trace(net), {f"net.{name}": weight}, (x,))


class Trace(torch.nn.Module):
    def __init__(self, net: TwoLayerMLP) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.squared_jacobian(x)


def test_it_is_the_mlp_and_has_the_published_size() -> None:
    sizes = [122, 1024, 61]
    net = TwoLayerMLP(sizes, seed=3)
    assert sum(p.numel() for p in net.parameters()) == 187_392
    same = MLP(sizes, "quadratic", bias=False, seed=3)
    assert all(map(torch.equal, net.parameters(), same.parameters()))
    weights = [layer.weight.detach() for layer in net.layers]
    bounds = [float(w.abs().max() * w.shape[1] ** 0.5) for w in weights]
    assert all(0.99 < bound <= 1 for bound in bounds)  # uniform in +-1 / sqrt(inputs)


@pytest.mark.refusal
def test_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="widths must have three entries, got"):
        TwoLayerMLP([4, 3])
