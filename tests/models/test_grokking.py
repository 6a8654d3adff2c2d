"""Options of the module: settings by parameter, clipping, constraints, further splits."""

from __future__ import annotations

from functools import partial

import pytest
import small
import torch
from torch import nn

from grokscope import GOPCallback, Run
from grokscope.data.base import Split
from grokscope.models import GrokkingModule
from grokscope.models.losses import ArgmaxAccuracy, SquaredError
from grokscope.nets import MLP


def module(optimizer=torch.optim.AdamW, **settings):
    net = MLP((14, 16, 7), "quadratic", bias=False, init_std=0.3, seed=0)
    made = partial(optimizer, lr=1e-2)
    return GrokkingModule(net, SquaredError(), ArgmaxAccuracy(), made, **settings)


def trained(made, tmp_path, epochs=5, callbacks=(), data=None):
    trainer = small.trainer(epochs, callbacks, tmp_path)
    trainer.fit(made, datamodule=data or small.data())
    return [p.detach().clone() for p in made.parameters()]


def names_of(made):
    return [name for name, _ in made.net.named_parameters()]


def plain_loop(made, optimizers, epochs=5, clip=None, after=lambda net: None):
    data = small.data()
    data.setup()
    inputs = data.train.inputs
    targets = SquaredError().prepare(data.train.targets, 7)
    for _ in range(epochs):
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.nn.functional.mse_loss(made.net(inputs), targets).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(made.net.parameters(), clip)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            after(made.net)
    return [p.detach().clone() for p in made.parameters()]


def same(ours, theirs):
    return all(map(torch.equal, ours, theirs))


def test_settings_by_name_equal_two_optimizers(tmp_path):
    plain = module()
    first, second = plain.net.parameters()
    name = names_of(plain)[0].replace(".", r"\.")
    settings = {name: {"lr": 3e-2, "weight_decay": 0.3}}
    ours = trained(module(parameter_settings=settings), tmp_path)
    own = torch.optim.AdamW([first], lr=3e-2, weight_decay=0.3)
    theirs = plain_loop(plain, [own, torch.optim.AdamW([second], lr=1e-2)])
    assert same(ours, theirs)
    assert not same(ours, trained(module(), tmp_path))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"nothing": {}},
            r"parameter_settings\.nothing must match a parameter .* got parameters ",
        ),
        ({"(": {}}, "parameter_settings must map regular expressions, got '\\('"),
        ({"net": {}, "layers": {}}, r"parameter_settings\.layers must match"),
    ],
)
def test_a_pattern_without_parameters_is_refused(settings, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        trained(module(parameter_settings=settings), tmp_path)


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_clipping_is_after_the_measured_gradient(tmp_path, steps_per_call):
    made = module(torch.optim.SGD, clip_norm=1e-3, steps_per_call=steps_per_call)
    callback = GOPCallback(("batch",), "every 1", output_dir=tmp_path)
    ours = trained(made, tmp_path, callbacks=[callback])
    plain = module(torch.optim.SGD)
    theirs = plain_loop(plain, [torch.optim.SGD(plain.parameters(), lr=1e-2)], clip=1e-3)
    assert same(ours, theirs)
    assert (Run.open(tmp_path).metrics["gop/batch/grad_norm"] > 1e-2).all()


@pytest.mark.refusal
@pytest.mark.parametrize("value", [0.0, -1.0, "a"])
def test_a_norm_that_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match="clip_norm must"):
        module(clip_norm=value)


class Halves(nn.Module):
    """Halves all weights, and counts in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, net):
        self.steps += 1
        for parameter in net.parameters():
            parameter.mul_(0.5)


@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_a_constraint_follows_every_step_and_is_saved(tmp_path, steps_per_call):
    made = module(after_step=Halves(), steps_per_call=steps_per_call)
    ours = trained(made, tmp_path)
    plain = module()
    adam = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    assert same(ours, plain_loop(plain, [adam], after=Halves()))
    assert made.state_dict()["after_step.steps"] == 5


def test_further_splits_have_columns_of_their_own(tmp_path):
    data = small.data()
    data.setup()
    data.extra["first"] = data.train[:4]
    data.extra["wrong"] = Split(data.train.inputs[:4], (data.train.targets[:4] + 1) % 7)
    made = module(extra_splits=["first", "wrong"])
    trained(made, tmp_path, epochs=40, callbacks=[GOPCallback(output_dir=tmp_path)], data=data)
    metrics = Run.open(tmp_path).metrics
    assert metrics["first_acc"][-1] == 1.0
    assert metrics["wrong_acc"][-1] == 0.0
    assert len(metrics["first_loss"]) == 41
    assert metrics["first_loss"][-1] < metrics["wrong_loss"][-1]


@pytest.mark.refusal
def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="extra_splits must be of none here, got 'other'"):
        trained(module(extra_splits=["other"]), tmp_path)
