"""The numerics guard reads the step under way, and sees rounding stop a run."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import small
import torch
from lightning import LightningModule
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.callbacks.families.numerics import NumericsGuard
from grokscope.models import GrokkingModule
from grokscope.models.answers import AnswerAccuracy, AnswerCrossEntropy
from grokscope.models.grokking import Step
from grokscope.models.losses import ArgmaxAccuracy, CrossEntropy, SoftmaxLoss
from grokscope.nets import MLP

EPOCHS = 6


def classifier(precision="outputs", scale=1.0, l2=0.0):
    net = MLP((14, 16, 7), "relu", bias=False, init_std=0.3, seed=0)
    with torch.no_grad():
        net.layers[-1].weight *= scale
    optimizer = partial(torch.optim.SGD, lr=1e-3)
    return GrokkingModule(net, CrossEntropy(precision), ArgmaxAccuracy(), optimizer, l2=l2)


def recorded(module, folder, batch_size=None, epochs=EPOCHS):
    guard = NumericsGuard("every 1")
    callback = GOPCallback(kinds=[], output_dir=folder, progress={"numerics": guard})
    small.trainer(epochs, [callback], folder).fit(module, small.data(batch_size))
    return Run.open(folder).metrics


def test_the_guard_sees_what_plain_autograd_gives(tmp_path):
    module = classifier(l2=0.01)
    metrics = recorded(module, tmp_path, epochs=1)
    twin = classifier(l2=0.01)
    data = small.data()
    data.prepare_data()
    data.setup("fit")
    twin.prepare_data_on_device(data)
    twin.objective(twin.train_batch).backward()
    weights, gradients = (
        torch.cat([t.double().flatten() for t in tensors])
        for tensors in (
            [p.detach() for p in twin.parameters()],
            [p.grad for p in twin.parameters()],
        )
    )
    expected = -torch.cosine_similarity(weights, gradients, dim=0)
    assert metrics["numerics/nlm_cosine"][0] == pytest.approx(float(expected), rel=1e-6)
    assert metrics["numerics/absorbed"][0] == metrics["numerics/collapsed"][0] == 0
    assert 0 < metrics["numerics/zero_sum"][0] < 1e-6


def test_large_logits_collapse_in_the_float_type_of_the_loss(tmp_path):
    coarse = recorded(classifier(scale=1e3), tmp_path / "a", epochs=1)
    fine = recorded(classifier("float64", scale=1e3), tmp_path / "b", epochs=1)
    assert coarse["numerics/absorbed"][0] > 0.9
    assert 0 < coarse["numerics/collapsed"][0] < 0.5  # an untrained net is mostly wrong
    assert fine["numerics/absorbed"][0] < coarse["numerics/absorbed"][0]


@pytest.mark.parametrize("batch_size", [None, 8])
def test_training_is_bit_equal_with_the_guard(tmp_path, batch_size):
    watched, alone = classifier(), classifier()
    recorded(watched, tmp_path, batch_size)
    small.trainer(EPOCHS, [], tmp_path).fit(alone, small.data(batch_size))
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_squared_error_has_the_cosine_only(tmp_path):
    metrics = recorded(small.module(), tmp_path)
    assert {name for name in metrics if name.startswith("numerics/")} == {
        "numerics/epoch",
        "numerics/step",
        "numerics/nlm_cosine",
    }
    assert np.isfinite(metrics["numerics/nlm_cosine"]).all()


@pytest.mark.parametrize("which", ["all", "answer"])
def test_answers_of_several_tokens_count_where_the_loss_asks(which):
    loss = AnswerCrossEntropy(which)
    module = GrokkingModule(
        nn.Linear(2, 2), loss, AnswerAccuracy(which), partial(torch.optim.SGD, lr=0.1)
    )
    assert isinstance(loss, SoftmaxLoss)
    outputs = torch.zeros(3, 2, 5)
    outputs[:, 1, 0] = 100.0  # the end of sentence is absorbed
    targets = torch.zeros(3, 2, dtype=torch.int64)
    module.live_step = Step(torch.zeros(()), outputs, targets)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    found = NumericsGuard().measure(module)
    assert found["absorbed"] == (0.5 if which == "all" else 0.0)


@pytest.mark.refusal
def test_a_module_that_does_not_show_its_step_is_refused():
    with pytest.raises(ValueError, match="must have a GrokkingModule, got LightningModule"):
        NumericsGuard().columns(LightningModule())
