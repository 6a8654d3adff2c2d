"""Projected gradient descent on nets whose worst case is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.measures.adversarial import adversarial_accuracy, pgd
from grokscope.nets import MLP

SETTINGS = {"epsilon": 0.1, "alpha": 0.03, "steps": 10, "clip": None}


def samples(n: int = 50, d: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, d, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(2, (n,), generator=generator)


@pytest.mark.parametrize("start", [False, True])
def test_a_linear_classifier_is_moved_to_the_corner_of_the_ball(start: bool) -> None:
    net, (x, y) = nn.Linear(6, 2).double(), samples()
    generator = torch.Generator().manual_seed(1) if start else None
    margin = net.weight[1] - net.weight[0]
    worst = x + 0.1 * torch.where(y == 0, 1.0, -1.0)[:, None] * margin.sign()
    torch.testing.assert_close(pgd(net, x, y, generator=generator, **SETTINGS), worst)
    moved = net(x)[:, 1] - net(x)[:, 0]
    right = torch.where(y == 0, -moved, moved) > 0.1 * margin.abs().sum()
    found = adversarial_accuracy(net, x, y, chunk_size=7, **SETTINGS)
    assert found == pytest.approx(float(right.double().mean()))


def test_it_stays_in_the_ball_and_the_range_and_raises_the_loss() -> None:
    net, (x, y) = MLP([6, 20, 20, 2], "relu", seed=0).double(), samples()
    generator = torch.Generator().manual_seed(0)
    settings = SETTINGS | {"clip": (0.0, 1.0)}
    found = pgd(net, x, y, generator=generator, **settings)
    assert float((found - x).abs().max()) <= 0.1 + 1e-12
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    losses = [F.cross_entropy(net(z), y, reduction="none") for z in (x, found)]
    assert (losses[1] > losses[0]).double().mean() > 0.95
    assert all(p.grad is None for p in net.parameters())


def test_it_is_the_released_loop() -> None:
    net, (x, y) = MLP([6, 20, 2], "relu", seed=0).double(), samples()
    delta = torch.zeros_like(x)
    for _ in range(10):
        leaf = (x + delta).requires_grad_()
        F.cross_entropy(net(leaf), y).backward()
        delta = (delta + 0.03 * leaf.grad.sign()).clamp(-0.1, 0.1)
        delta = (x + delta).clamp(0, 1) - x
    found = pgd(net, x, y, **(SETTINGS | {"clip": (0.0, 1.0)}))
    torch.testing.assert_close(found, x + delta, rtol=0, atol=1e-12)


def test_the_start_depends_on_the_private_generator_alone() -> None:
    net, (x, y) = MLP([6, 5, 2], seed=0).double(), samples()
    before = torch.get_rng_state()
    a, b, c = (
        pgd(
            net, x, y, generator=torch.Generator().manual_seed(s), epsilon=0.1, steps=1, alpha=0.01
        )
        for s in (0, 0, 1)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_no_room_is_no_attack() -> None:
    net, (x, y) = MLP([6, 5, 2], seed=0).double(), samples()
    assert torch.equal(pgd(net, x, y, epsilon=0, clip=None), x)
    clean = float((net(x).argmax(1) == y).double().mean())
    assert adversarial_accuracy(net, x, y, epsilon=0) == pytest.approx(clean)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -1}, "epsilon must be a number >= 0"),
        ({"alpha": 0}, "alpha must be a number > 0"),
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"clip": (1, 0)}, r"clip must be a smaller and a larger number, got \(1, 0\)"),
    ],
)
def test_wrong_arguments_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pgd(nn.Linear(6, 2).double(), *samples(), **(SETTINGS | change))
