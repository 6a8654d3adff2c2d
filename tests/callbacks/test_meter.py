"""Gradients at given weights, against a plain loop with autograd."""

from __future__ import annotations

import pytest
import torch
from small import data, module

from grokscope import GOPCallback
from grokscope.callbacks.meter import Meter
from grokscope.callbacks.stopwatch import Stopwatch

KINDS = ["batch", "weight", "sample"]


def prepared(batch_size, l2=0.0, kinds=KINDS, **settings):
    task = data(batch_size)
    task.setup("fit")
    net = module(l2=l2).double()
    net.prepare_data_on_device(task)
    return net, task, Meter(net, task, GOPCallback(kinds, **settings))


def gradients(net, task, epoch, l2) -> torch.Tensor:
    """(b, m) of the loss and the penalty."""
    rows = []
    for chosen in task.batch_rows(epoch):
        outputs = net.net(net.train_batch.split.inputs[chosen])
        loss = net.loss(outputs, net.train_batch.loss_targets[chosen]).mean()
        loss = loss + l2 * sum(p.square().sum() for p in net.parameters())
        found = torch.autograd.grad(loss, list(net.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_gradients_are_those_of_the_objective_at_these_weights(batch_size, l2):
    net, task, meter = prepared(batch_size, l2)
    before = [p.detach().clone() for p in net.parameters()]
    found = meter.measure(3, Stopwatch())
    assert all(map(torch.equal, before, net.parameters()))
    assert all(p.grad is None for p in net.parameters())
    expected = gradients(net, task, 3, l2)
    mean = expected.mean(dim=0)
    batch, weight = (found[kind].whole for kind in ("batch", "weight"))
    trace = expected.square().sum(dim=1).mean()
    assert batch["trace"][0] == pytest.approx(float(trace), rel=1e-10)
    assert batch["grad_norm"][0] == pytest.approx(float(mean.norm()), rel=1e-10)
    assert weight["trace"][0] == pytest.approx(float(mean.square().sum()), rel=1e-10)
    assert set(found) == set(KINDS)


def test_more_mini_batches_than_fit_are_thinned():
    _, _, meter = prepared(2, max_bytes=8 * 400 * 4, kinds=["batch"])
    assert meter.n_rows < 12
    assert meter.measure(0, Stopwatch())["batch"].whole["trace"][0] > 0
