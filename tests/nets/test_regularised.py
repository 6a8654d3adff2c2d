"""Dropout, batch norm and mean-field scaling beside the plain net."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grokscope.nets import MLP, MeanFieldMLP, RegularisedMLP, doshi_std, mlp, power_std


class Released(nn.Module):
    """The released nets, d-doshi/Grokking:utils/models.py, rewritten: fcn and fcn_norm."""

    def __init__(self, net: RegularisedMLP, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        d_in, h, c = (
            net.layers[0].in_features,
            net.layers[0].out_features,
            net.layers[1].out_features,
        )
        self.fc1, self.fc2 = nn.Linear(d_in, h, bias=False), nn.Linear(h, c, bias=False)
        self.dp, self.norm = nn.Dropout(dropout), nn.BatchNorm1d(h) if batch_norm else None
        self.load(net)

    @torch.no_grad()
    def load(self, net):
        self.fc1.weight.copy_(net.layers[0].weight)
        self.fc2.weight.copy_(net.layers[1].weight)

    def forward(self, x):
        if self.norm is None:
            return self.fc2(torch.pow(self.dp(self.fc1(x)), 2))
        return self.fc2(self.norm(torch.pow(self.fc1(x), 2)))


@pytest.mark.parametrize(("dropout", "batch_norm"), [(0.0, False), (0.6, False), (0.0, True)])
def test_twin_of_the_released_nets_step_by_step(dropout, batch_norm, generator):
    net = RegularisedMLP(
        (14, 20, 7),
        "quadratic",
        False,
        doshi_std(20),
        dropout=dropout,
        batch_norm=batch_norm,
        seed=0,
    ).double()
    twin = Released(net, dropout, batch_norm).double()
    optimizers = [
        torch.optim.AdamW(n.parameters(), lr=1e-2, weight_decay=5.0, betas=(0.9, 0.98))
        for n in (net, twin)
    ]
    x = torch.randn(30, 14, dtype=torch.float64, generator=generator)
    y = torch.randn(30, 7, dtype=torch.float64, generator=generator)
    for step in range(20):
        for n, optimizer in zip((net, twin), optimizers, strict=True):
            torch.manual_seed(step)
            optimizer.zero_grad()
            F.mse_loss(n(x), y).backward()
            optimizer.step()
    for layer, released in zip(net.layers, (twin.fc1, twin.fc2), strict=True):
        torch.testing.assert_close(layer.weight, released.weight, rtol=1e-10, atol=1e-12)
    net.eval(), twin.eval()
    torch.testing.assert_close(net(x), twin(x), rtol=1e-10, atol=1e-12)


def test_without_either_it_is_the_plain_net():
    arguments = ((6, 5, 4, 3), "relu", True)
    x = torch.linspace(-1, 1, 12).view(2, 6)
    assert torch.equal(RegularisedMLP(*arguments, seed=3)(x), MLP(*arguments, seed=3)(x))


def test_dropout_after_a_power_scales_otherwise_than_before():
    x = torch.ones(4, 3, dtype=torch.float64)
    nets = [
        RegularisedMLP((3, 50, 2), "quadratic", False, 1.0, dropout=0.5, dropout_at=at, seed=0)
        for at in ("before", "after")
    ]
    outputs = []
    for net in nets:
        torch.manual_seed(0)
        outputs.append(net.double()(x))
    torch.testing.assert_close(outputs[0], 2 * outputs[1])  # 1 / 0.5^2 against 1 / 0.5


def test_every_hidden_layer_has_its_norm():
    net = RegularisedMLP((6, 5, 4, 3), batch_norm=True, seed=0)
    assert [norm.num_features for norm in net.norms] == [5, 4]
    net(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)))
    assert all(norm.running_mean.abs().sum() > 0 for norm in net.norms)


@pytest.mark.parametrize(
    "net",
    [
        RegularisedMLP(
            (22, 20, 11), "quadratic", False, 0.3, dropout=0.5, batch_norm=True, seed=0
        ),
        MeanFieldMLP(22, 20, 11, seed=0),
    ],
    ids=["regularised", "mean field"],
)
def test_shared_forward_is_the_plain_one(net, monkeypatch):
    monkeypatch.setattr(mlp, "_WORTH_SHARING", 1)
    net = net.double()
    pairs = torch.cartesian_prod(torch.arange(11), torch.arange(11))
    inputs = F.one_hot(pairs, 11).flatten(1).double()
    outputs = []
    for forward in (lambda: net(inputs), lambda: net.forward_shared(net.share(inputs))):
        torch.manual_seed(0)
        outputs.append(forward())
    torch.testing.assert_close(*outputs)


def test_mean_field_is_divided_by_both_widths(generator):
    net = MeanFieldMLP(6, 8, 3, seed=0).double()
    x = torch.randn(5, 6, dtype=torch.float64, generator=generator)
    first, last = (layer.weight for layer in net.layers)
    torch.testing.assert_close(net(x), ((x @ first.T) ** 2 @ last.T) / (6 * 8))
    assert sum(p.numel() for p in MeanFieldMLP(194, 500, 97).parameters()) == 3 * 500 * 97


def test_power_std_is_the_published_one_for_two_terms():
    assert power_std(500, 2) == pytest.approx(doshi_std(500))
    assert power_std(5000, 4) > power_std(5000, 2)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"dropout": 1.0}, "dropout must be a number"),
        ({"dropout_at": "both"}, "dropout_at must be one of before, after"),
        ({"batch_norm": 1}, "batch_norm must be true or false"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        RegularisedMLP((3, 4, 2), **arguments)
    with pytest.raises(ValueError, match=r"^d_hidden must be an integer >= 1"):
        MeanFieldMLP(3, 0, 2)
