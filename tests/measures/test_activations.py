"""Activations by layer, with hooks, beside a forward pass by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from grokscope.measures.activations import hidden_layers, representations
from grokscope.nets import MLP, OneLayerTransformer


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))


def test_by_default_they_are_what_linear_layers_read_and_the_outputs():
    x, layers = torch.randn(6, 3), net()
    found = representations(layers, x)
    assert list(found) == ["2", "4", "output"]
    assert torch.equal(found["2"], layers[:2](x))
    assert torch.equal(found["4"], layers[:4](x))
    assert torch.equal(found["output"], layers(x))
    assert not found["2"].requires_grad


def test_a_linear_net_has_outputs_only():
    assert hidden_layers(nn.Linear(2, 2)) == []
    assert list(representations(nn.Linear(3, 2), torch.randn(6, 3))) == ["output"]


def test_named_modules_give_their_outputs_in_the_order_of_the_names():
    x, layers = torch.randn(6, 3), net()
    found = representations(layers, x, ["3", "0"])
    assert list(found) == ["3", "0"]
    assert torch.equal(found["0"], layers[0](x))
    assert torch.equal(found["3"], layers[:4](x))


def test_positions_lie_side_by_side_and_no_hook_stays():
    transformer = OneLayerTransformer(8, 3, 12, 3, 5, 20, "softmax", seed=1)
    tokens = torch.tensor([[1, 2, 7], [3, 4, 7]])
    found = representations(transformer, tokens, ["mlp.down"])
    assert found["mlp.down"].shape[0] == 2
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in transformer.modules())


def test_our_mlp_has_its_hidden_activations():
    mlp = MLP((4, 6, 3), "quadratic", bias=False, init_std=0.3, seed=0)
    x = torch.randn(5, 4)
    hidden = representations(mlp, x)["layers.1"]
    torch.testing.assert_close(hidden, mlp.layers[0](x).square())


@pytest.mark.refusal
def test_unknown_and_missing_layers_are_refused():
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"layers must be of 0, 1, 2, 3, 4, got '7'"):
        representations(net(), x, ["7"])
    lazy = net()
    lazy.spare = nn.Linear(1, 1)
    lazy.forward = lambda inputs: lazy[0](inputs)
    with pytest.raises(ValueError, match="must take part in the forward pass, got 'spare'"):
        representations(lazy, x, ["spare"])
