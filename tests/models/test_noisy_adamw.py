"""NoisyAdamW: torch's AdamW by default, the published optimizer's step otherwise."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from grokscope.models.noisy_adamw import DECAYS, NoisyAdamW

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.5}


def net(dtype=torch.float64):
    torch.manual_seed(1)
    made = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    return made.to(dtype)


def train(made, step, zero, steps=12, after=lambda: None):
    data = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)).to(made[0].weight)
    torch.manual_seed(2)
    for _ in range(steps):
        zero()
        (made(data).square().sum(1) - 1).square().mean().backward()
        step()
        after()
    return [p.detach().clone() for p in made.parameters()]


def run(optimizer_class, dtype=torch.float64, steps=12, **settings):
    made = net(dtype)
    optimizer = optimizer_class(made.parameters(), **SETTINGS, **settings)
    warm_up = LambdaLR(optimizer, lambda step: min(step / 5, 1))
    return train(made, optimizer.step, optimizer.zero_grad, steps, warm_up.step), optimizer


class Published:
    """One tensor at a time, as ``CustomAdamW`` of openai/grok:grok/training.py steps."""

    def __init__(self, parameters, decay, noise, lr, betas, eps, weight_decay):
        self.parameters, self.decay, self.noise = list(parameters), decay, noise
        self.lr, self.betas, self.eps, self.wd = lr, betas, eps, weight_decay
        self.start = [p.detach().clone() for p in self.parameters]
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]
        self.t = 0

    def zero(self):
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self):
        lr = self.lr * min(self.t / 5, 1)
        self.t += 1
        first, second = self.betas
        for i, p in enumerate(self.parameters):
            grad = p.grad + self.wd * p if self.decay == "honest" else p.grad
            if self.decay == "to_zero":
                p.mul_(1 - lr * self.wd)
            elif self.decay == "to_init":
                p.add_((self.start[i] - p) * (lr * self.wd))
            elif self.decay == "jiggle" and lr:
                p.mul_(torch.exp(torch.randn(1, dtype=p.dtype) * (lr * self.wd)))
            self.m[i] = first * self.m[i] + (1 - first) * grad
            self.v[i] = second * self.v[i] + (1 - second) * grad * grad
            root = self.v[i].sqrt() / math.sqrt(1 - second**self.t) + self.eps
            update = self.m[i] / root
            if self.noise:
                update = update + torch.randn_like(p) * self.noise
            p.add_(-lr / (1 - first**self.t) * update)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_default_it_is_adamw_bit_for_bit(dtype):
    ours, optimizer = run(NoisyAdamW, dtype)
    theirs, reference = run(torch.optim.AdamW, dtype)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    states = zip(optimizer.state.values(), reference.state.values(), strict=True)
    for mine, other in states:
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_honest_decay_is_adams_bit_for_bit():
    ours, _ = run(NoisyAdamW, decay="honest")
    theirs, _ = run(torch.optim.Adam)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("decay", "noise"), [*((decay, 0.0) for decay in DECAYS), ("to_zero", 0.1), ("to_init", 0.1)]
)
def test_steps_are_those_of_the_published_optimizer(decay, noise):
    ours, _ = run(NoisyAdamW, decay=decay, noise=noise)
    made = net()
    twin = Published(made.parameters(), decay, noise, **SETTINGS)
    theirs = train(made, twin.step, twin.zero)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", DECAYS)
def test_forms_of_decay_differ(decay):
    ours, _ = run(NoisyAdamW, decay=decay)
    for other in set(DECAYS) - {decay}:
        assert not torch.allclose(ours[0], run(NoisyAdamW, decay=other)[0][0], rtol=1e-6)


def test_its_state_goes_on_bit_for_bit():
    settings = {"decay": "to_init", "noise": 0.1}
    whole, _ = run(NoisyAdamW, **settings)
    made = net()
    optimizer = NoisyAdamW(made.parameters(), **SETTINGS, **settings)
    warm_up = LambdaLR(optimizer, lambda step: min(step / 5, 1))
    train(made, optimizer.step, optimizer.zero_grad, 7, warm_up.step)
    rng = torch.get_rng_state()
    saved = copy.deepcopy((made.state_dict(), optimizer.state_dict(), warm_up.state_dict()))
    other = net()
    resumed = NoisyAdamW(other.parameters(), **SETTINGS, **settings)
    again = LambdaLR(resumed, lambda step: min(step / 5, 1))
    for part, state in zip((other, resumed, again), saved, strict=True):
        part.load_state_dict(state)

    data = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)).double()
    torch.set_rng_state(rng)
    for _ in range(5):
        resumed.zero_grad()
        (other(data).square().sum(1) - 1).square().mean().backward()
        resumed.step()
        again.step()
    for a, b in zip(whole, other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_settings_by_group_and_parameters_without_a_gradient():
    a, b, c = (torch.ones(3, requires_grad=True) for _ in range(3))
    groups = [{"params": [a]}, {"params": [b, c], "decay": "jiggle", "noise": 0.5}]
    optimizer = NoisyAdamW(groups, lr=0.1, weight_decay=1.0)
    (a.sum() + b.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(a, torch.full((3,), 0.8), rtol=0, atol=1e-6)
    assert len(set(b.tolist())) == 3
    assert torch.equal(c, torch.ones(3))


def test_hooks_run_once_a_step():
    p = torch.ones(2, requires_grad=True)
    torch.optim.AdamW([p])  # its class is then wrapped
    optimizer, seen = NoisyAdamW([p]), []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert seen == ["before", "after"]


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": -1.0}, "noise must be a number >= 0"),
        ({"decay": "to_one"}, "decay must be one of to_zero, to_init, jiggle, honest"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NoisyAdamW([torch.ones(1, requires_grad=True)], **settings)
