"""The penalty on the trace of the AGOP, beside a plain loop."""

from __future__ import annotations

from functools import partial

import pytest
import small
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.measures.input_gop import input_gop
from grokscope.models.agop_penalty import AGOPPenaltyModule, agop_trace
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.nets import MLP
from grokscope.nets.two_layer import TwoLayerMLP


def module(kind, weight=1e-2):
    net = kind((14, 16, 7), "quadratic", False, seed=0)
    made = AGOPPenaltyModule(
        net,
        weight,
        loss=SquaredError(),
        accuracy=ArgmaxAccuracy(),
        optimizer=partial(torch.optim.SGD, lr=0.3),
    )
    return made.double()


def fit(made, folder, batch_size):
    trainer = small.trainer(4, (), folder)
    trainer.fit(made, datamodule=small.data(batch_size))
    return [p.detach().clone() for p in made.parameters()]


@pytest.mark.parametrize("batch_size", [None, 9])
def test_both_ways_equal_a_plain_loop_with_the_jacobian_written_out(tmp_path, batch_size):
    ours = [fit(module(kind), tmp_path, batch_size) for kind in (TwoLayerMLP, MLP)]
    made, data = module(MLP), small.data(batch_size)
    data.setup()
    first, second = made.net.parameters()
    x, y = data.train.inputs.double(), F.one_hot(data.train.targets, 7).double()
    optimizer = torch.optim.SGD([first, second], lr=0.3)
    for epoch in range(4):
        batches = [slice(None)] if batch_size is None else data.batch_rows(epoch)
        for rows in batches:
            hidden = x[rows] @ first.T
            jacobians = torch.einsum("ck,nk,kd->ncd", second, 2 * hidden, first)
            loss = F.mse_loss(hidden.square() @ second.T, y[rows])
            loss = loss + 1e-2 * jacobians.square().sum((1, 2)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for found in ours:
        for a, b in zip(found, (first, second), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-10, atol=1e-12)
    without = fit(module(MLP, 0.0), tmp_path, batch_size)
    assert not torch.allclose(without[0], ours[0][0])


def test_the_trace_is_that_of_the_input_gop_for_any_net():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    net.double()
    x = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = float(input_gop(net, x).dense().trace())
    assert float(agop_trace(net, x).detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.refusal
def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="agop_weight must be a number >= 0"):
        module(MLP, -1.0)
