from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.nets import resnet
from grokscope.nets.resnet import PreActivationResNet


@pytest.mark.parametrize(("width", "count"), [(16, 699_066), (64, 11_164_362)])
def test_parameters_are_those_of_the_released_net(width: int, count: int) -> None:
    assert sum(p.numel() for p in PreActivationResNet(width).parameters()) == count


def plain(net: PreActivationResNet, x: torch.Tensor) -> torch.Tensor:
    """The published forward pass, written out with functions."""
    weights = {name: p for name, p in net.named_parameters()}
    x = F.conv2d(x, weights["first.weight"], padding=1)
    for i in range(8):
        stride = 2 if i in (2, 4, 6) else 1
        out = F.relu(x)
        if stride == 2:
            x = F.conv2d(out, weights[f"blocks.{i}.shortcut.weight"], stride=2)
        out = F.conv2d(out, weights[f"blocks.{i}.conv_1.weight"], stride=stride, padding=1)
        out = F.conv2d(F.relu(out), weights[f"blocks.{i}.conv_2.weight"], padding=1)
        x = out + x
    return F.linear(F.avg_pool2d(x, 4).flatten(1), weights["last.weight"], weights["last.bias"])


def test_it_is_the_published_forward_pass() -> None:
    net = PreActivationResNet(4, seed=0).double()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(x), plain(net, x), rtol=1e-12, atol=1e-12)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_preactivations_are_what_the_relus_get() -> None:
    net = PreActivationResNet(2, seed=0)
    assert len(net.preactivations) == 16
    modules, seen = dict(net.named_modules()), []
    for name in net.preactivations:
        modules[name].register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape)))
    net(torch.randn(1, 3, 32, 32))
    sides = [(2, 32)] * 5 + [(4, 16)] * 4 + [(8, 8)] * 4 + [(16, 4)] * 3
    assert seen == [(1, width, side, side) for width, side in sides]


def test_its_seed_alone_decides_and_no_random_state_is_touched() -> None:
    before = torch.get_rng_state()
    a, b, c = (PreActivationResNet(2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(map(torch.equal, a.parameters(), b.parameters()))
    assert not torch.equal(a.first.weight, c.first.weight)
    bound = 1 / (3 * 9) ** 0.5
    assert 0.8 * bound < float(a.first.weight.detach().abs().max()) <= bound


def test_many_images_without_gradients_go_through_in_parts(monkeypatch) -> None:
    net, x = PreActivationResNet(1, seed=0), torch.randn(19, 3, 32, 32)
    whole, sizes = net(x).detach(), []
    net.first.register_forward_hook(lambda m, i, out: sizes.append(len(out)))
    monkeypatch.setattr(resnet, "CHUNK", 8)
    with torch.no_grad():
        torch.testing.assert_close(net(x), whole)
    assert sizes == [8, 8, 3]
    assert net(x).requires_grad
    assert sizes[-1] == 19


@pytest.mark.refusal
def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="width must be an integer >= 1, got 0"):
        PreActivationResNet(0)
